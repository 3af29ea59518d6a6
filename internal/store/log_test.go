package store

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const testSegment = 64 << 10

func openLogTest(t *testing.T, dir string) *segmentLog {
	t.Helper()
	l, err := openLog(dir, testSegment)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, l.close()) })
	return l
}

func logKey(n int) string { return fmt.Sprintf("%06d", n) }

// numbered is entry n of a log, with a value of that size.
func numbered(n, size int) Op {
	return Op{Key: []byte(logKey(n)), Value: bytes.Repeat([]byte{byte(n), byte(n >> 8), 1}, size/3+1)[:size]}
}

// replayed returns the numbers of the entries, whose values must be whole.
func replayed(t *testing.T, l interface {
	replay(after []byte, fn func(k, v []byte) bool) error
}) (all []int) {
	t.Helper()
	require.NoError(t, l.replay(nil, func(k, v []byte) bool {
		var n int
		_, err := fmt.Sscanf(string(k), "%d", &n)
		require.NoError(t, err)
		require.Equal(t, numbered(n, len(v)).Value, v)
		all = append(all, n)
		return true
	}))
	return all
}

// crashedLog returns a copy of the log as a crash would leave it.
func crashedLog(t *testing.T, l *segmentLog) string {
	dir := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.CopyFS(dir, os.DirFS(l.dir)))
	return dir
}

func segmentFiles(t *testing.T, dir string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+segmentExt))
	require.NoError(t, err)
	return paths
}

func upTo(first, last int) (all []int) {
	for n := first; n <= last; n++ {
		all = append(all, n)
	}
	return all
}

// edit changes a file.
func edit(t *testing.T, path string, change func(b []byte)) {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	change(b)
	require.NoError(t, os.WriteFile(path, b, 0o600))
}

// A crash leaves any of the blocks of the last batch. Its entries are whole or not there, and all before it are.
func TestTornBatch(t *testing.T) {
	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	for n := 1; n <= 3; n++ {
		require.NoError(t, l.append([]Op{numbered(n, 5000)}))
	}
	from := l.tail.end
	require.NoError(t, l.append([]Op{numbered(4, 9000), numbered(5, 100), numbered(6, 9000)}))
	blocks := int(l.tail.end-from) / frameAlign
	require.Equal(t, 7, blocks)
	for kept := range 1 << blocks { // each subset of the blocks
		dir := crashedLog(t, l)
		edit(t, filepath.Join(dir, filepath.Base(l.tail.path)), func(b []byte) {
			for i := range blocks {
				if kept&(1<<i) == 0 {
					at := int(from) + i*frameAlign
					clear(b[at : at+frameAlign])
				}
			}
		})
		want := upTo(1, 3)
		for i, of := range []int{0b111, 0b1000, 0b1110000} {
			if kept&of == of {
				want = append(want, 4+i)
			}
		}
		again := openLogTest(t, dir)
		require.Equal(t, want, replayed(t, again), "%07b", kept)
		// What comes next does not meet what was torn, in this life nor in the one after it.
		require.NoError(t, again.append([]Op{numbered(9, 10)}))
		want = append(want, 9)
		require.Equal(t, want, replayed(t, openLogTest(t, crashedLog(t, again))), "%07b", kept)
	}
}

// A damaged entry is missing, and no other.
func TestDamagedEntry(t *testing.T) {
	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	for n := 1; n <= 4; n++ {
		require.NoError(t, l.append([]Op{numbered(n, 6000)}))
	}
	for _, at := range []int{0, 4, 8, 12, 16, 20, frameTagAt, frameHead - 1, frameHead, 6000} {
		dir := crashedLog(t, l)
		edit(t, filepath.Join(dir, filepath.Base(l.tail.path)), func(b []byte) { b[int(frameSize(6000))+at] ^= 4 })
		require.Equal(t, []int{1, 3, 4}, replayed(t, openLogTest(t, dir)), at)
	}
	dir := crashedLog(t, l)
	edit(t, filepath.Join(dir, filepath.Base(l.tail.path)), func(b []byte) { b[2*int(frameSize(6000))-1] ^= 4 }) // of no entry
	require.Equal(t, upTo(1, 4), replayed(t, openLogTest(t, dir)))
}

// What a value holds does not pass for a frame, whatever it is.
func TestForgedFrame(t *testing.T) {
	forger := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	require.NoError(t, forger.append([]Op{numbered(7, 100)}))
	frame, err := os.ReadFile(forger.tail.path)
	require.NoError(t, err)
	forged := append(make([]byte, frameAlign-frameHead), frame[:frameAlign]...)

	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	require.NoError(t, l.append([]Op{numbered(1, 10), {Key: []byte(logKey(2)), Value: forged}, numbered(3, 10)}))
	dir := crashedLog(t, l)
	edit(t, filepath.Join(dir, filepath.Base(l.tail.path)), func(b []byte) { b[frameAlign] ^= 1 }) // so that its inside is looked at
	require.Equal(t, []int{1, 3}, replayed(t, openLogTest(t, dir)))
	// It is one to a file with that name.
	other := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.Mkdir(other, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(other, filepath.Base(forger.tail.path)), forged[frameAlign-frameHead:], 0o600))
	require.Equal(t, []int{7}, replayed(t, openLogTest(t, other)))
}

// Segments are used again when what is in them is trimmed, so a log that is trimmed takes no more and more room;
// what is left of older entries in them was trimmed.
func TestSegmentsAreUsedAgain(t *testing.T) {
	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	trimmed := 0
	for n := 1; n <= 400; n++ {
		require.NoError(t, l.append([]Op{numbered(n, 9<<10)}))
		if n%40 == 0 {
			count, size, err := l.trim([]byte(logKey(n - 20)))
			require.NoError(t, err)
			require.Equal(t, n-21-trimmed, count)
			require.EqualValues(t, count*9<<10, size)
			trimmed = n - 21
			require.LessOrEqual(t, len(segmentFiles(t, l.dir)), 6, n)
		}
	}
	want := upTo(trimmed+1, 400)
	require.Equal(t, want, replayed(t, l))
	again := openLogTest(t, crashedLog(t, l))
	all := replayed(t, again)
	require.Equal(t, want, all[len(all)-len(want):])
	_, _, err := again.trim([]byte(logKey(trimmed + 1)))
	require.NoError(t, err)
	require.Equal(t, want, replayed(t, again))
	require.NoError(t, again.append([]Op{numbered(401, 10)}))
	_, _, err = again.trim([]byte(logKey(401)))
	require.NoError(t, err)
	require.Equal(t, []int{401}, replayed(t, openLogTest(t, crashedLog(t, again))), "what an earlier life left is gone for good")
}

// Segments that a burst has left are removed when nothing has needed them for the time between two trims.
func TestUnusedSegmentsGo(t *testing.T) {
	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	n := 1
	for ; n <= 100; n++ {
		require.NoError(t, l.append([]Op{numbered(n, 14<<10)}))
	}
	l.making.Wait()
	for range 3 {
		_, _, err := l.trim([]byte(logKey(n)))
		require.NoError(t, err)
		require.NoError(t, l.append([]Op{numbered(n, 10)}))
		n++
	}
	require.Len(t, segmentFiles(t, l.dir), 2)
}

// What could not be removed is removed by the next trim.
func TestTrimGoesOn(t *testing.T) {
	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	require.NoError(t, l.append([]Op{numbered(1, 10)}))
	again := openLogTest(t, crashedLog(t, l))
	path := segmentFiles(t, again.dir)[0]
	require.NoError(t, os.Remove(path))
	require.NoError(t, os.MkdirAll(filepath.Join(path, "in the way"), 0o700))
	n, size, err := again.trim([]byte(logKey(9)))
	require.Error(t, err)
	require.Equal(t, 1, n)
	require.EqualValues(t, 10, size)
	require.NoError(t, os.Remove(filepath.Join(path, "in the way")))
	_, _, err = again.trim([]byte(logKey(9)))
	require.NoError(t, err)
	require.Empty(t, segmentFiles(t, again.dir))
}

// A log from which all is trimmed leaves no file, any other one all that it holds.
func TestFilesOfAClosedLog(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	for life := range 3 {
		l, err := openLog(dir, testSegment)
		require.NoError(t, err)
		require.Empty(t, segmentFiles(t, dir), "one that is not needed is not made")
		for n := 1; n <= 30; n++ {
			require.NoError(t, l.append([]Op{numbered(n, 5<<10)}))
		}
		if life == 1 {
			require.NoError(t, l.close())
			l, err = openLog(dir, testSegment)
			require.NoError(t, err)
			require.Equal(t, upTo(1, 30), replayed(t, l))
		}
		_, _, err = l.trim([]byte(logKey(31)))
		require.NoError(t, err)
		require.NoError(t, l.close())
	}
	require.Empty(t, segmentFiles(t, dir))
}

// After a sync that failed nothing is written: what is on disk is not known.
func TestFailedSyncIsFinal(t *testing.T) {
	l, err := openLog(filepath.Join(t.TempDir(), "log"), testSegment)
	require.NoError(t, err)
	require.NoError(t, l.append([]Op{numbered(1, 10)}))
	file := l.tail.file
	pipe, other, err := os.Pipe()
	require.NoError(t, err)
	defer other.Close()
	l.tail.file = pipe // neither written to at a place, nor synced
	first := l.append([]Op{numbered(2, 10)})
	require.Error(t, first)
	require.NotErrorIs(t, first, ErrFull)
	l.tail.file = file
	require.Equal(t, first, l.append([]Op{numbered(3, 10)}))
	_, _, err = l.trim([]byte(logKey(9)))
	require.NoError(t, err)
	require.NoError(t, l.close())
	require.Len(t, segmentFiles(t, l.dir), 1, "what is in the last one is not known")
}

// A disk that is full is told of as such, and no file of nothing is left. With room again the log goes on.
func TestLogOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160k"); err != nil {
		t.Skipf("needs root, to mount a small disk: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	ballast := filepath.Join(dir, "ballast")
	require.NoError(t, os.WriteFile(ballast, make([]byte, 64<<10), 0o600))
	l, err := openLog(filepath.Join(dir, "log"), testSegment)
	require.NoError(t, err)
	defer func() { require.NoError(t, l.close()) }()
	n := 1
	for ; err == nil; n++ {
		err = l.append([]Op{numbered(n, 12<<10)})
	}
	require.ErrorIs(t, err, ErrFull)
	require.Equal(t, 6, n, "four fit into a segment")
	l.making.Wait()
	require.Len(t, segmentFiles(t, l.dir), 1)
	require.NoError(t, os.Remove(ballast))
	require.NoError(t, l.append([]Op{numbered(n, 12<<10)}))
	require.Equal(t, []int{1, 2, 3, 4, 6}, replayed(t, l))
}

// A segment that a crash left while it was made is removed; files that are none of ours are let alone.
func TestFilesThatHoldNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.Mkdir(dir, 0o700))
	for name, size := range map[string]int{
		hex.EncodeToString(make([]byte, saltLen)): 0, hex.EncodeToString(bytes.Repeat([]byte{1}, saltLen)): 3 << 20, "notes": 10, "abcd": 4096,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name+segmentExt), make([]byte, size), 0o600))
	}
	openLogTest(t, dir)
	left := segmentFiles(t, dir)
	require.Len(t, left, 2)
	require.Equal(t, []string{"abcd.log", "notes.log"}, []string{filepath.Base(left[0]), filepath.Base(left[1])})
}

// An entry that is there twice is one of a copy that somebody has made.
func TestEntryTwice(t *testing.T) {
	a := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	b := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	require.NoError(t, a.append([]Op{numbered(1, 10)}))
	require.NoError(t, b.append([]Op{numbered(1, 20)}))
	dir := crashedLog(t, a)
	require.NoError(t, os.CopyFS(dir, os.DirFS(b.dir)))
	_, err := openLog(dir, testSegment)
	require.ErrorIs(t, err, ErrCorrupt)
}

// A batch larger than any segment gets one of its own.
func TestLargeBatch(t *testing.T) {
	l := openLogTest(t, filepath.Join(t.TempDir(), "log"))
	var ops []Op
	for n := 1; n <= 20; n++ {
		ops = append(ops, numbered(n, 20<<10))
	}
	require.NoError(t, l.append(ops))
	require.LessOrEqual(t, l.tail.end, l.tail.size)
	require.NoError(t, l.append([]Op{numbered(21, 10)}))
	require.Equal(t, upTo(1, 21), replayed(t, openLogTest(t, crashedLog(t, l))))
	require.ErrorIs(t, l.append([]Op{{Key: make([]byte, frameKeyMax+1), Value: []byte{}}}), ErrTooLarge)
}
