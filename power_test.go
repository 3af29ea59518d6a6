package sessile_test

import (
	"errors"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// A loopDisk is an ext4 file system of its own, on a loop device.
type loopDisk struct {
	image, dir string
	mounted    bool
}

const loopMount = "loop,errors=remount-ro"

// newLoopDisk makes and mounts one, or skips the test where that cannot be.
func newLoopDisk(t *testing.T, size int64) *loopDisk {
	t.Helper()
	if os.Geteuid() != 0 {
		skip(t, "needs root, to mount a file system of its own")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		skip(t, "needs loop devices: %v", err)
	}
	mkfs, err := exec.LookPath("mkfs.ext4")
	if err != nil {
		skip(t, "needs mkfs.ext4 (Debian: e2fsprogs): %v", err)
	}
	d := &loopDisk{image: filepath.Join(t.TempDir(), "image"), dir: t.TempDir()}
	f, err := os.Create(d.image)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(size))
	require.NoError(t, f.Close())
	run(t, mkfs, "-q", "-F", d.image)
	if out, err := exec.Command("mount", "-o", loopMount, d.image, d.dir).CombinedOutput(); err != nil {
		skip(t, "needs to mount a loop device: %v: %s", err, out)
	}
	d.mounted = true
	t.Cleanup(func() {
		if d.mounted { // a test that failed may have left an engine open on it
			require.NoError(t, syscall.Unmount(d.dir, syscall.MNT_DETACH))
		}
	})
	return d
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoError(t, err, "%s %v: %s", name, args, out)
}

func (d *loopDisk) mount(t *testing.T) {
	t.Helper()
	run(t, "mount", "-o", loopMount, d.image, d.dir)
	d.mounted = true
}

func (d *loopDisk) unmount(t *testing.T) {
	t.Helper()
	// A process that was killed leaves its files for a moment longer.
	require.Eventually(t, func() bool {
		err := syscall.Unmount(d.dir, 0)
		return !errors.Is(err, syscall.EBUSY)
	}, 10*time.Second, time.Millisecond)
	d.mounted = false
}

// cut takes the power: what the file system has not yet flushed is lost, and all that
// is asked of it from now on fails with EIO.
func (d *loopDisk) cut() error {
	const (
		fsIOCShutdown = 0x8004587d // FS_IOC_SHUTDOWN
		noLogFlush    = 2
	)
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	flags := uint32(noLogFlush)
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), fsIOCShutdown, uintptr(unsafe.Pointer(&flags))); errno != 0 {
		return errno
	}
	return nil
}

// SESSILE_CUTS asks for more power cuts than the default.
func TestPowerCut(t *testing.T) {
	next := rounds(t, many(t, "SESSILE_CUTS", 6))
	d := newLoopDisk(t, 1<<30)
	opt := crashOptions
	opt.Dir = filepath.Join(d.dir, "data")
	c := crash{dir: opt.Dir, end: func(child *os.Process) {
		// The processor stops before the disk does: ext4 says of a sync that is under
		// way while it is shut down that it is done, when it is not.
		if err := errors.Join(child.Signal(syscall.SIGSTOP), d.cut(), child.Kill()); err != nil {
			t.Error(err)
		}
	}}
	steps, ends, done := int64(0), 0, 0
	for {
		if _, more := next(); !more {
			break
		}
		done++
		a := c.run(t, time.Duration(5+rand.Intn(150))*time.Millisecond)
		require.Empty(t, a.stderr)
		d.unmount(t)
		d.mount(t)
		e, err := sessile.Open(opt)
		require.NoError(t, err)
		t.Cleanup(func() { _ = e.Close() })
		steps = a.verify(t, e)
		ends += len(a.ended)
		require.NoError(t, e.Close())
		if done%20 == 0 {
			progress("power: %d cuts, %d steps of history, %d durable ends", done, steps, ends)
		}
	}
	t.Logf("%d cuts, %d steps of history, %d durable ends", done, steps, ends)
	progress("power: %d cuts, %d steps of history, %d durable ends", done, steps, ends)
}
