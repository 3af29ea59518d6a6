package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func openTest(t *testing.T, dir string) Store {
	t.Helper()
	s, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
	require.NoError(t, err)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			require.ErrorIs(t, err, ErrClosed)
		}
	})
	return s
}

func set(k, v string) Op { return Op{Key: []byte(k), Value: []byte(v)} }
func del(k string) Op    { return Op{Key: []byte(k)} }

func scan(t *testing.T, s Store, prefix, after string, keysOnly bool) (out []string) {
	t.Helper()
	var from []byte
	if after != "" {
		from = []byte(after)
	}
	require.NoError(t, s.Scan([]byte(prefix), from, keysOnly, func(k, v []byte) bool {
		if keysOnly && v != nil {
			t.Error("a value with keysOnly")
		}
		out = append(out, string(k)+"="+string(v))
		return true
	}))
	return out
}

func TestCommitGetScan(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	require.NoError(t, s.Commit(nil))
	require.NoError(t, s.Commit([]Op{set("a2", "x"), set("a1", ""), set("b", "y"), set("a", "z")}))
	require.NoError(t, s.Commit([]Op{del("a2"), set("a3", "w"), set("b", "yy")}))
	check := func() {
		v, ok, err := s.Get([]byte("a1"), []byte("dst"))
		require.NoError(t, err)
		require.True(t, ok)
		require.Equal(t, "dst", string(v))
		_, ok, err = s.Get([]byte("a2"), nil)
		require.NoError(t, err)
		require.False(t, ok)
		require.Equal(t, []string{"a=z", "a1=", "a3=w"}, scan(t, s, "a", "", false))
		require.Equal(t, []string{"a1=", "a3="}, scan(t, s, "a", "a", true))
		require.Equal(t, []string{"a3=w"}, scan(t, s, "a", "a2", false))
		require.Empty(t, scan(t, s, "a", "a3", false))
		require.Equal(t, []string{"b=yy"}, scan(t, s, "b", "", false))
	}
	check()
	require.NoError(t, s.SetMark(7))
	require.NoError(t, s.Close())
	require.ErrorIs(t, s.Close(), ErrClosed)
	require.ErrorIs(t, s.Commit([]Op{set("a", "b")}), ErrClosed)
	_, _, err := s.Get([]byte("a"), nil)
	require.ErrorIs(t, err, ErrClosed)
	require.ErrorIs(t, s.Scan(nil, nil, true, nil), ErrClosed)

	s = openTest(t, dir)
	check()
	mark, ok := s.Mark()
	require.True(t, ok)
	require.EqualValues(t, 7, mark)
}

// A caller may use the memory of after for the next page's.
func TestScanInPages(t *testing.T) {
	s := openTest(t, t.TempDir())
	var ops []Op
	for i := range 500 {
		ops = append(ops, set(fmt.Sprint("k", i), ""))
	}
	require.NoError(t, s.Commit(ops))
	var after []byte
	seen := map[string]bool{}
	for {
		n := 0
		require.NoError(t, s.Scan([]byte("k"), after, true, func(k, _ []byte) bool {
			require.False(t, seen[string(k)])
			seen[string(k)] = true
			after = append(after[:0], k...)
			n++
			return n < 7
		}))
		if n < 7 {
			break
		}
	}
	require.Len(t, seen, 500)
}

func TestLimits(t *testing.T) {
	s := openTest(t, t.TempDir())
	l := s.Limits()
	require.NoError(t, s.Commit([]Op{{Key: []byte("v"), Value: make([]byte, l.Value)}}))
	require.ErrorIs(t, s.Commit([]Op{set("x", ""), {Key: []byte("v"), Value: make([]byte, l.Value+1)}}), ErrTooLarge)
	full := func(size int) (ops []Op) {
		for i := 0; size > 0; i++ {
			op := Op{Key: fmt.Appendf(nil, "key%06d", i)}
			op.Value = make([]byte, max(0, min(size-op.Size(), 100<<10)))
			size -= op.Size()
			ops = append(ops, op)
		}
		return ops
	}
	sum := func(ops []Op) (n int) {
		for _, op := range ops {
			n += op.Size()
		}
		return n
	}
	ops := full(l.Bytes - 200)
	ops[0].Value = ops[0].Value[:len(ops[0].Value)-(sum(ops)-l.Bytes+200)]
	require.LessOrEqual(t, sum(ops), l.Bytes)
	require.NoError(t, s.Commit(ops))
	require.ErrorIs(t, s.Commit(full(l.Bytes+1000)), ErrTooLarge)
	many := make([]Op, l.Ops+1)
	for i := range many {
		many[i] = set(strconv.Itoa(i), "")
	}
	require.NoError(t, s.Commit(many[:l.Ops]))
	require.ErrorIs(t, s.Commit(many), ErrTooLarge)
	_, ok, err := s.Get([]byte("x"), nil)
	require.NoError(t, err)
	require.False(t, ok, "nothing of a refused batch is there")
}

func TestConcurrentUse(t *testing.T) {
	s := openTest(t, t.TempDir())
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				key := fmt.Sprintf("%d/%d", g, i)
				if err := s.Commit([]Op{set(key, key), set("last"+strconv.Itoa(g), strconv.Itoa(i))}); err != nil {
					t.Error(err)
				}
				if v, ok, err := s.Get([]byte(key), nil); err != nil || !ok || string(v) != key {
					t.Error("a batch is seen once its Commit has returned:", key, ok, err)
				}
				if err := s.Scan([]byte(strconv.Itoa(g)), nil, true, func(k, _ []byte) bool { return true }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestOneOwner(t *testing.T) {
	dir := t.TempDir()
	openTest(t, dir)
	_, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
	require.ErrorIs(t, err, ErrLocked)
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "STORE_CHILD=open", "STORE_DIR="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "locked")
	info, err := os.Stat(filepath.Join(dir, "badger"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())
}

// TestChild is what tests run in a process of its own.
func TestChild(t *testing.T) {
	dir := os.Getenv("STORE_DIR")
	switch os.Getenv("STORE_CHILD") {
	case "open":
		_, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
		if errors.Is(err, ErrLocked) {
			fmt.Println("locked")
		}
	case "commit":
		s, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
		require.NoError(t, err)
		for i := 0; ; i++ {
			a := set(fmt.Sprintf("a%06d", i), "x")
			b := Op{Key: fmt.Appendf(nil, "b%06d", i), Value: make([]byte, 1000)}
			require.NoError(t, s.Commit([]Op{a, b}))
			fmt.Println(i)
		}
	case "descriptors":
		s, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
		require.NoError(t, err)
		var files []*os.File
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}))
		for {
			f, err := os.Open(os.DevNull)
			if err != nil {
				break
			}
			files = append(files, f)
		}
		require.ErrorIs(t, s.Commit([]Op{set("a", "b")}), ErrFull)
		for _, f := range files {
			f.Close()
		}
		require.NoError(t, s.Commit([]Op{set("a", "b")}))
		require.NoError(t, s.Close())
		fmt.Println("resumed")
	default:
		t.Skip("run by other tests in a process of its own")
	}
}

func TestDescriptorsUsedUp(t *testing.T) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "STORE_CHILD=descriptors", "STORE_DIR="+t.TempDir())
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "resumed")
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	for round := range 3 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
		cmd.Env = append(os.Environ(), "STORE_CHILD=commit", "STORE_DIR="+dir)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		acked := -1
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if n, err := strconv.Atoi(lines.Text()); err == nil {
				acked = n
			}
			if acked == 20*(round+1) {
				require.NoError(t, cmd.Process.Kill())
			}
		}
		_ = cmd.Wait()
		s := openTest(t, dir)
		a, b := scan(t, s, "a", "", true), scan(t, s, "b", "", true)
		require.Greater(t, len(a), acked, "every acknowledged batch is there")
		require.Equal(t, strings.ReplaceAll(strings.Join(a, ""), "a", "b"), strings.Join(b, ""), "batches are whole")
		require.NoError(t, s.Close())
	}
}

func TestReserve(t *testing.T) {
	_, err := OpenBadger(t.TempDir(), BadgerOptions{DiskReserve: 1 << 60})
	require.ErrorIs(t, err, ErrFull)
}

// Whatever byte of whatever file is damaged, opening ends in an error or in
// what was stored, never in a panic or another value.
func TestDamagedFiles(t *testing.T) {
	dir := t.TempDir()
	s := openTest(t, dir)
	for i := range 100 {
		require.NoError(t, s.Commit([]Op{{Key: fmt.Appendf(nil, "k%03d", i), Value: bytes.Repeat([]byte{byte(i)}, 100)}}))
	}
	require.NoError(t, s.SetMark(3))
	require.NoError(t, s.Close())
	for _, pattern := range []string{"MARK", "badger/*.sst", "badger/MANIFEST", "badger/KEYREGISTRY"} {
		files, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		whole, err := os.ReadFile(files[0])
		require.NoError(t, err)
		for _, at := range []int{0, len(whole) / 3, len(whole) / 2, len(whole) - 9, len(whole) - 1} {
			damaged := bytes.Clone(whole)
			damaged[at] ^= 0xff
			require.NoError(t, os.WriteFile(files[0], damaged, 0o600))
			s, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
			if err != nil {
				require.ErrorIs(t, err, ErrCorrupt, "%s at %d", pattern, at)
				continue
			}
			for i := range 100 {
				v, ok, err := s.Get(fmt.Appendf(nil, "k%03d", i), nil)
				if err == nil && ok {
					require.Equal(t, bytes.Repeat([]byte{byte(i)}, 100), v, "%s at %d", pattern, at)
				}
			}
			require.NoError(t, s.Close())
			// Opening may have rewritten files; the next damage needs them whole.
			break
		}
		require.NoError(t, os.WriteFile(files[0], whole, 0o600))
	}
}
