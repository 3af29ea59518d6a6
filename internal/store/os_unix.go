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

// descriptors returns ErrFull when there are none left for a batch.
func descriptors(dir string) error {
	var fds [batchFiles]int
	for i := range fds {
		fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_DIRECTORY, 0)
		if err != nil {
			for _, fd := range fds[:i] {
				syscall.Close(fd)
			}
			if err == syscall.EMFILE || err == syscall.ENFILE {
				return fmt.Errorf("%w: no file descriptors: %w", ErrFull, err)
			}
			return fmt.Errorf("open %s: %w", dir, err)
		}
		fds[i] = fd
	}
	for _, fd := range fds {
		syscall.Close(fd)
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
