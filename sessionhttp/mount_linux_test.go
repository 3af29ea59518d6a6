package sessionhttp_test

import (
	"fmt"
	"syscall"
	"testing"
)

// mount puts a disk of the size at dir.
func mount(t *testing.T, dir string, size int) {
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprint("size=", size)); err != nil {
		t.Skipf("a small disk cannot be mounted here (that needs root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, 0) })
}
