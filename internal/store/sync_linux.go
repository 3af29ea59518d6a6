package store

import (
	"os"
	"syscall"
)

// datasync makes what was written to a file durable, and of what is known of the file only what is needed to read it.
func datasync(f *os.File) error {
	for {
		if err := syscall.Fdatasync(int(f.Fd())); err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
