package store

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	badger "github.com/dgraph-io/badger/v4"
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
	whole := os.DirFS(dir)
	for _, pattern := range []string{"MARK", "badger/*.sst", "badger/MANIFEST", "badger/KEYREGISTRY"} {
		files, err := fs.Glob(whole, pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files, pattern)
		b, err := fs.ReadFile(whole, files[0])
		require.NoError(t, err)
		for at := 0; at < len(b); at += max(1, len(b)/23) {
			dir := t.TempDir() // opening may rewrite other files as well
			require.NoError(t, os.CopyFS(dir, whole))
			damaged := bytes.Clone(b)
			damaged[at] ^= 0xff
			require.NoError(t, os.WriteFile(filepath.Join(dir, files[0]), damaged, 0o600))
			s, err := OpenBadger(dir, BadgerOptions{DiskReserve: -1})
			if err != nil {
				require.ErrorIs(t, err, ErrCorrupt, "%s at %d", pattern, at)
				continue
			}
			for i := range 100 {
				v, ok, err := s.Get(fmt.Appendf(nil, "k%03d", i), nil)
				require.NoError(t, err)
				require.True(t, ok, "%s at %d", pattern, at)
				require.Equal(t, bytes.Repeat([]byte{byte(i)}, 100), v, "%s at %d", pattern, at)
			}
			require.NoError(t, s.Close())
		}
	}
}

// A disk that dies while Badger opens, which then tries for ever, ends in an error.
func TestDiskDiesWhileOpening(t *testing.T) {
	stuck := make(chan struct{})
	defer close(stuck)
	cause := errors.New("input/output error")
	db, err := watched(func() (*badger.DB, error) { <-stuck; return nil, cause }, func() error { return cause }, time.Millisecond)
	require.ErrorIs(t, err, cause)
	require.Nil(t, db)
	db, err = watched(func() (*badger.DB, error) { return nil, nil }, func() error { return cause }, time.Hour)
	require.NoError(t, err)
	require.Nil(t, db)
}
