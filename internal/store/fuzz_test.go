package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"runtime/metrics"
	"testing"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/stretchr/testify/require"
)

// Whatever is in a file, looking at it ends in nil or ErrCorrupt, and takes no more memory than the
// file has bytes.

// look fails the test if verify, of a file with b in it, does anything else.
func look(t *testing.T, b []byte, verify func() error) {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	err := verify()
	metrics.Read(sample)
	if n := sample[0].Value.Uint64() - before; n > 1<<20+200*uint64(len(b)) {
		t.Fatalf("%d bytes made verify allocate %d", len(b), n)
	}
	if err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatal(err)
	}
}

func FuzzVerifyManifest(f *testing.F) {
	dir := writtenSmall(f)
	b, err := os.ReadFile(filepath.Join(dir, badger.ManifestFilename))
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[:len(b)-1])
	f.Add(append(b[:8:8], 0, 0, 0, 10, 0, 0, 0, 0, 1)) // a header, and a change set cut short
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, badger.ManifestFilename), b, 0o600))
		look(t, b, func() error { _, err := verifyManifest(dir); return err })
	})
}

func FuzzVerifyTable(f *testing.F) {
	dir := writtenSmall(f)
	paths, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(f, err)
	require.NotEmpty(f, paths)
	b, err := os.ReadFile(paths[0])
	require.NoError(f, err)
	f.Add(b)
	f.Add(b[len(b)-100:])
	f.Add([]byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		look(t, b, func() error {
			return new(tableVerifier).verify("table", bytes.NewReader(b), len(b), badger.TableManifest{})
		})
	})
}

func FuzzVerifyLog(f *testing.F) {
	entry := append(make([]byte, logHeader), metaTxn, 0, 8, 0, 0)
	f.Add(entry)
	f.Add(append(binary.AppendUvarint(append(make([]byte, logHeader), metaTxn, 0, 8), 1<<31), 0))
	dir := writtenSmall(f)
	paths, err := filepath.Glob(filepath.Join(dir, "*.mem"))
	require.NoError(f, err)
	require.NotEmpty(f, paths)
	b, err := os.ReadFile(paths[0])
	require.NoError(f, err)
	f.Add(b[:min(len(b), 2000)])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "log")
		require.NoError(t, os.WriteFile(path, b, 0o600))
		look(t, b, func() error { return verifyLog(path) })
	})
}

func FuzzMark(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, markLen))
	f.Add(make([]byte, markLen-1))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, markFile), b, 0o600))
		var n uint64
		look(t, b, func() (err error) { n, _, err = readMark(dir); return err })
		if n != 0 && n != binary.LittleEndian.Uint64(b) {
			t.Fatalf("%x is %d", b, n)
		}
	})
}

// writtenSmall makes a directory with a small table and a log.
func writtenSmall(f *testing.F) string {
	dir := f.TempDir()
	opt := BadgerOptions{MemTableSize: 1 << 20, DiskReserve: -1}
	for range 2 {
		s, err := OpenBadger(dir, opt)
		require.NoError(f, err)
		require.NoError(f, s.Commit([]Op{set("key", "value"), set("other", "value")}))
		data := f.TempDir()
		require.NoError(f, os.CopyFS(data, os.DirFS(filepath.Join(dir, "badger"))))
		require.NoError(f, s.Close())
		if paths, _ := filepath.Glob(filepath.Join(data, "*.sst")); len(paths) > 0 {
			return data
		}
	}
	f.Fatal("there is no table")
	return ""
}

// A file of the log with anything in it yields whole entries, or none.
func FuzzSegment(f *testing.F) {
	// Each process of the fuzzer must make the same.
	seg := &segment{salt: make([]byte, saltLen)}
	name := hex.EncodeToString(seg.salt) + segmentExt
	values := make(map[string][]byte)
	var b []byte
	for n, size := range []int{10, 5000, 100} {
		op := numbered(n, size)
		values[logKey(n)] = op.Value
		e := entry{key: logKey(n), seg: seg, inBatch: int64(len(b)), size: size, crc: crc32.Checksum(op.Value, frameTable)}
		b = e.appendFrame(b, op.Value)
	}
	f.Add(b)
	f.Add(b[:2*frameAlign+100])
	renamed := bytes.Clone(b)
	renamed[17]++ // of the first key
	f.Add(renamed)
	f.Add(b[3*frameAlign:])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(t.TempDir(), "log")
		require.NoError(t, os.Mkdir(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		var l *segmentLog
		look(t, b, func() (err error) { l, err = openLog(dir, testSegment); return err })
		if l == nil {
			return
		}
		require.NoError(t, l.replay(nil, func(k, v []byte) bool {
			require.Equal(t, values[string(k)], v, "%q", k) // nobody can make another one
			return true
		}))
		require.NoError(t, l.close())
	})
}
