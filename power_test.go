package sessile_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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

// stop stops all threads of a process. A thread that is waiting for the disk stops when it
// is done with that.
func stop(p *os.Process) error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.Pid))
		if err != nil || len(stats) == 0 {
			return errors.Join(os.ErrProcessDone, err)
		}
		states := ""
		for _, stat := range stats {
			b, err := os.ReadFile(stat)
			if err == nil { // else the thread has ended
				states += string(b[bytes.LastIndexByte(b, ')')+2])
			}
		}
		// One that has stopped has told all others to.
		if strings.Contains(states, "T") && strings.Trim(states, "TD") == "" {
			return nil
		}
	}
	return errors.New("the process did not stop")
}

func TestPowerCut(t *testing.T) {
	c := newCampaign(t, 6, "power cuts", "before it was ready", "steps", "acknowledgements", "ends among them")
	d := newLoopDisk(t, 1<<30)
	child := crash{dir: filepath.Join(d.dir, "data"), encrypted: c.seed%2 == 0, end: func(child *os.Process) {
		// The processor stops before the disk does: ext4 says of a sync that is under
		// way while it is shut down that it is done, when it is not.
		if err := errors.Join(stop(child), d.cut(), child.Kill()); err != nil {
			t.Error(err)
		}
	}}
	var newest int64
	for {
		seed, more := c.next()
		if !more {
			break
		}
		a := child.run(t, seed)
		require.Empty(t, a.failed)
		d.again(t)
		newest = c.recovered(t, a, child, newest)
		c.add("power cuts", 1)
	}
}

// The disk dies under a process, which goes on: it hears of it as an error of the store, or, where
// Badger has a mapped file in hand just then, is ended by the kernel. What it had been told before holds.
func TestDyingDisk(t *testing.T) {
	c := newCampaign(t, 3, "dead disks", "ended by the kernel", "before it was ready", "steps", "acknowledgements", "ends among them")
	d := newLoopDisk(t, 1<<30)
	child := crash{dir: filepath.Join(d.dir, "data"), end: func(*os.Process) {
		if err := d.cut(); err != nil {
			t.Error(err)
		}
	}}
	var newest int64
	for {
		seed, more := c.next()
		if !more {
			break
		}
		a := child.run(t, seed)
		switch {
		case strings.Contains(a.failed, "unexpected fault address"):
			c.add("ended by the kernel", 1)
		case !a.ready && strings.Contains(a.failed, syscall.EIO.Error()): // Open, or the program itself
		default:
			require.Contains(t, a.failed, sessile.ErrPersistence.Error())
		}
		d.again(t)
		newest = c.recovered(t, a, child, newest)
		c.add("dead disks", 1)
	}
}

// What Open finds in the log is on disk before anything rests on it: a process that is killed leaves what it
// had not synced yet to the next one in memory alone.
func TestLogThatWasOnlyInMemory(t *testing.T) {
	opt := sessile.Options{CheckpointInterval: time.Hour, DiskReserve: -1}
	if opt.Dir = os.Getenv("SESSILE_UNSYNCED_DIR"); opt.Dir != "" {
		_, err := sessile.Open(opt)
		require.NoError(t, err)
		fmt.Println("ready")
		select {}
	}
	d := newLoopDisk(t, 512<<20)
	opt.Dir = t.TempDir()
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	dir := copyDir(t, opt.Dir)
	require.NoError(t, e.Close())
	files, err := filepath.Glob(filepath.Join(dir, "log", "*"))
	require.NoError(t, err)
	require.Len(t, files, 1)
	written, err := os.ReadFile(files[0])
	require.NoError(t, err)

	// The blocks of the log are on disk, as zeros, and what is in them is not.
	require.NoError(t, os.WriteFile(files[0], make([]byte, len(written)), 0o600))
	opt.Dir = filepath.Join(d.dir, "data")
	run(t, "cp", "-r", "--sparse=never", dir, opt.Dir)
	syscall.Sync()
	f, err := os.OpenFile(filepath.Join(opt.Dir, "log", filepath.Base(files[0])), os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.Write(written)
	require.NoError(t, err)
	require.NoError(t, f.Close())

	child := exec.Command(os.Args[0], "-test.run=^TestLogThatWasOnlyInMemory$")
	child.Env = append(os.Environ(), "SESSILE_UNSYNCED_DIR="+opt.Dir)
	out, err := child.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	require.NoError(t, errors.Join(d.cut(), child.Process.Kill()))
	require.Error(t, child.Wait())
	d.again(t)
	e = open(t, opt)
	require.EqualValues(t, 1, read(t, e, "a"))
	require.NoError(t, e.Close())
}
