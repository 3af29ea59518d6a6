package store

import "golang.org/x/sys/windows"

// freeSpace returns how many bytes may still be written to the directory's file system.
func freeSpace(dir string) (int64, error) {
	path, err := windows.UTF16PtrFromString(dir)
	if err != nil {
		return 0, err
	}
	var free uint64
	err = windows.GetDiskFreeSpaceEx(path, &free, nil, nil)
	return int64(free), err
}

// writable has nothing to check: handles are bound by memory alone, and what is open cannot be removed.
func (s *badgerStore) writable() error { return nil }

// lockDir leaves the lock to Badger.
func lockDir(string) (unlock func(), err error) { return func() {}, nil }
