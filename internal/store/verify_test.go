package store

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// written makes a directory with tables and, as after a crash, the log of a memtable with txns
// transactions in it, and returns a copy of its Badger part.
func written(t *testing.T, txns int) string {
	dir := t.TempDir()
	opt := BadgerOptions{MemTableSize: 1 << 20, DiskReserve: -1}
	s, err := OpenBadger(dir, opt)
	require.NoError(t, err)
	for i := range 100 {
		require.NoError(t, s.Commit([]Op{{Key: fmt.Appendf(nil, "table %d", i), Value: bytes.Repeat([]byte("t"), 1000)}}))
	}
	require.NoError(t, s.Close())
	s, err = OpenBadger(dir, opt)
	require.NoError(t, err)
	for i := range txns {
		require.NoError(t, s.Commit([]Op{
			{Key: fmt.Appendf(nil, "log %d", i), Value: bytes.Repeat([]byte("l"), 100)},
			{Key: fmt.Appendf(nil, "more %d", i), Value: []byte("m")},
		}))
	}
	data := t.TempDir()
	require.NoError(t, os.CopyFS(data, os.DirFS(filepath.Join(dir, "badger"))))
	require.NoError(t, s.Close())
	return data
}

// change rewrites the one file that matches.
func change(t *testing.T, dir, pattern string, fn func(b []byte) []byte) {
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	require.NoError(t, err)
	require.Len(t, paths, 1, pattern)
	b, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(paths[0], fn(b), 0o600))
}

// A process that is killed between making a log and sizing it, or between emptying and removing it, leaves an
// empty file, which is no damage.
func TestEmptyLogs(t *testing.T) {
	dir := t.TempDir()
	opt := BadgerOptions{MemTableSize: 1 << 20, DiskReserve: -1}
	s, err := OpenBadger(dir, opt)
	require.NoError(t, err)
	require.NoError(t, s.Commit([]Op{{Key: []byte("k"), Value: []byte("v")}}))
	require.NoError(t, s.Close())
	for _, name := range []string{"00000.mem", "00099.mem", "000000.vlog", "000099.vlog"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "badger", name), nil, 0o600))
		s, err = OpenBadger(dir, opt)
		require.NoError(t, err, name)
		v, ok, err := s.Get([]byte("k"), nil)
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "v", string(v))
		require.NoError(t, s.Close())
	}
}

func TestVerify(t *testing.T) {
	dir := written(t, 20)
	require.NoError(t, verify(dir))
	whole := os.DirFS(dir)
	for _, test := range []struct {
		name, pattern string
		fn            func(b []byte) []byte
		damaged       bool
	}{
		{"first byte of the manifest", "MANIFEST", func(b []byte) []byte { b[0] ^= 1; return b }, true},
		{"length of the first change set", "MANIFEST", func(b []byte) []byte { b[8+3] ^= 0x40; return b }, true},
		{"manifest torn in its last change set", "MANIFEST", func(b []byte) []byte { return b[:len(b)-1] }, false},
		{"manifest torn in a header", "MANIFEST", func(b []byte) []byte { return append(b, 0, 0, 0, 9, 1) }, false},
		{"manifest empty", "MANIFEST", func([]byte) []byte { return nil }, true},
		{"table cut short", "*.sst", func(b []byte) []byte { return b[:len(b)-1] }, true},
		{"table empty", "*.sst", func([]byte) []byte { return nil }, true},
		{"log torn in the last transaction", "*.mem", tear(1), false},
		{"log with a hole in the last transaction", "*.mem", hole("more 19"), false},
		{"log with a hole in the last transaction but one", "*.mem", hole("more 18"), true},
		{"log with a hole", "*.mem", hole("log 3"), true},
		{"log without the end of a transaction", "*.mem", func(b []byte) []byte {
			at := bytes.LastIndex(b, []byte("log 19"))
			fin := bytes.LastIndex(b[:at], []byte("!badger!txn"))
			b[fin] ^= 1
			return b
		}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, whole))
			change(t, dir, test.pattern, test.fn)
			err := verify(dir)
			if !test.damaged {
				require.NoError(t, err)
				return
			}
			require.ErrorIs(t, err, ErrCorrupt)
		})
	}
	for _, pattern := range []string{"MANIFEST", "*.sst"} {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, whole))
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		require.NoError(t, os.Remove(paths[0]))
		require.ErrorIs(t, verify(dir), ErrCorrupt, pattern)
	}
}

// Nor one of the manifest.
func TestVerifyManifest(t *testing.T) {
	dir := written(t, 20)
	path := filepath.Join(dir, "MANIFEST")
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for at := range b {
		for bit := range 8 {
			b[at] ^= 1 << bit
			require.NoError(t, os.WriteFile(path, b, 0o600))
			_, err := verifyManifest(dir)
			require.ErrorIs(t, err, ErrCorrupt, "byte %d of %d, bit %d", at, len(b), bit)
			b[at] ^= 1 << bit
		}
	}
}

// tear cuts n bytes off what is written of a log; zeros follow it as before.
func tear(n int) func(b []byte) []byte {
	return func(b []byte) []byte {
		used := len(bytes.TrimRight(b, "\x00"))
		clear(b[used-n:])
		return b
	}
}

// hole changes a byte of the key in a log.
func hole(key string) func(b []byte) []byte {
	return func(b []byte) []byte {
		b[bytes.LastIndex(b, []byte(key))] ^= 1
		return b
	}
}

// No bit of a table can change without verify seeing it, nor make it panic.
func TestVerifyTable(t *testing.T) {
	dir := written(t, 0)
	tables, err := verifyManifest(dir)
	require.NoError(t, err)
	paths, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	require.NoError(t, err)
	require.Len(t, paths, 1)
	b, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	for id, info := range tables {
		require.NoError(t, new(tableVerifier).verify(paths[0], bytes.NewReader(b), len(b), info), id)
		at, step := 0, 97
		for at < len(b) {
			for bit := range 8 {
				b[at] ^= 1 << bit
				require.ErrorIs(t, new(tableVerifier).verify(paths[0], bytes.NewReader(b), len(b), info), ErrCorrupt, "byte %d of %d, bit %d", at, len(b), bit)
				b[at] ^= 1 << bit
			}
			if at += step; len(b)-at < 2000 {
				step = 1
			}
		}
	}
}
