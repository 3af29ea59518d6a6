//go:build !windows

package store

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// freeSpace returns how many bytes may still be written to the directory's file system.
func freeSpace(dir string) (int64, error) {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return 0, err
	}
	return int64(fs.Bavail) * int64(fs.Bsize), nil
}

// batchFiles is how many files a batch may make Badger open.
const batchFiles = 4

// writable opens and closes files of the directory as a batch would. It returns ErrFull when there are no
// descriptors left, and another error when the file system is read-only or shut down, or the
// directory is not the one that was: a write to a mapped file would end the process then, or be
// lost.
func (s *badgerStore) writable() error {
	var fds [batchFiles]int
	opened := 0
	defer func() {
		for _, fd := range fds[:opened] {
			syscall.Close(fd)
		}
	}()
	for i := range fds {
		path, mode := s.data, syscall.O_RDONLY|syscall.O_DIRECTORY
		if i > 0 && s.manifest != "" {
			path, mode = s.manifest, syscall.O_WRONLY
		}
		fd, err := syscall.Open(path, mode|syscall.O_CLOEXEC, 0)
		if err == syscall.EMFILE || err == syscall.ENFILE {
			return fmt.Errorf("%w: no file descriptors: %w", ErrFull, err)
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: path, Err: err}
		}
		fds[i] = fd
		opened++
	}
	var dir syscall.Stat_t
	if err := syscall.Fstat(fds[0], &dir); err != nil {
		return &os.PathError{Op: "stat", Path: s.data, Err: err}
	}
	if s.inode == (inode{}) {
		s.inode = inode{uint64(dir.Dev), dir.Ino}
	}
	if s.inode != (inode{uint64(dir.Dev), dir.Ino}) {
		return fmt.Errorf("%s is another directory than the one that was opened", s.data)
	}
	return nil
}

// lockDir takes the lock that Badger takes on a directory, or returns ErrLocked.
func lockDir(dir string) (unlock func(), err error) {
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
		}
		return nil, fmt.Errorf("flock %s: %w", dir, err)
	}
	return func() { file.Close() }, nil
}
