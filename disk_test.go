package sessile_test

import (
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

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// Sick disks: something happens to the file system of an engine that works. It happens in a
// process of its own, because it could end it; what that left is looked at by the
// parent, when the file system is well again.
var sickDisks = []struct {
	name string
	on   func(t *testing.T) disk
	// child is given the directory of the file system.
	child func(t *testing.T, dir string)
	// after is called when the child has passed; nil: all that was acknowledged is there.
	after func(t *testing.T, dir string)
}{
	{"full before Open", tmpfs, func(t *testing.T, dir string) {
		require.NoError(t, sickEngine(t, dir).Close())
		opt := sickOptions(dir)
		opt.DiskReserve = sickReserve
		putBallast(t, dir, sickReserve/2)
		_, err := sessile.Open(opt)
		require.ErrorIs(t, err, sessile.ErrDiskFull)
		require.NoError(t, os.Remove(filepath.Join(dir, "ballast")))
		e, err := sessile.Open(opt)
		require.NoError(t, err)
		require.NoError(t, e.Close())
	}, nil},
	{"full meanwhile", tmpfs, func(t *testing.T, dir string) {
		require.NoError(t, sickEngine(t, dir).Close())
		opt := sickOptions(dir)
		opt.DiskReserve = sickReserve
		e, err := sessile.Open(opt)
		require.NoError(t, err)
		putBallast(t, dir, sickReserve/2)
		requireFull(t, e, func() { require.NoError(t, os.Remove(filepath.Join(dir, "ballast"))) })
	}, nil},
	{"descriptors used up", plain, func(t *testing.T, dir string) {
		e := sickEngine(t, dir)
		require.NoError(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}))
		var files []*os.File
		for {
			file, err := os.Open(os.DevNull)
			if err != nil {
				require.ErrorIs(t, err, syscall.EMFILE)
				break
			}
			files = append(files, file)
		}
		requireFull(t, e, func() {
			for _, file := range files {
				require.NoError(t, file.Close())
			}
		})
	}, nil},
	{"shut down", loop, func(t *testing.T, dir string) {
		e := sickEngine(t, dir)
		require.NoError(t, (&loopDisk{dir: dir}).cut())
		requireSick(t, e)
	}, nil},
	{"read-only after an error", loop, func(t *testing.T, dir string) {
		e := sickEngine(t, dir)
		require.NoError(t, fsError(dir))
		requireSick(t, e)
	}, nil},
	{"shut down before Open", loop, func(t *testing.T, dir string) {
		require.NoError(t, sickEngine(t, dir).Close())
		require.NoError(t, (&loopDisk{dir: dir}).cut())
		_, err := sessile.Open(sickOptions(dir))
		require.ErrorIs(t, err, sessile.ErrPersistence)
		require.ErrorIs(t, err, syscall.EIO)
	}, nil},
	{"read-only before Open", loop, func(t *testing.T, dir string) {
		require.NoError(t, sickEngine(t, dir).Close())
		require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		_, err := sessile.Open(sickOptions(dir))
		require.ErrorIs(t, err, sessile.ErrPersistence)
		require.ErrorIs(t, err, syscall.EROFS)
	}, nil},
	{"read-only and empty", loop, func(t *testing.T, dir string) {
		require.NoError(t, syscall.Mount("", dir, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
		_, err := sessile.Open(sickOptions(dir))
		require.ErrorIs(t, err, sessile.ErrPersistence)
		require.ErrorIs(t, err, syscall.EROFS)
	}, func(*testing.T, string) {}},
	{"directory removed", plain, func(t *testing.T, dir string) {
		e := sickEngine(t, dir)
		require.NoError(t, os.RemoveAll(sickOptions(dir).Dir))
		requireSick(t, e)
	}, func(*testing.T, string) {}},
	{"directory moved", plain, func(t *testing.T, dir string) {
		e := sickEngine(t, dir)
		require.NoError(t, os.Rename(sickOptions(dir).Dir, filepath.Join(dir, "moved")))
		requireSick(t, e)
	}, func(t *testing.T, dir string) {
		moveBack(t, dir)
		requireAcknowledged(t, dir)
	}},
	{"directory replaced by a copy", plain, func(t *testing.T, dir string) {
		e := sickEngine(t, dir)
		data, moved := sickOptions(dir).Dir, filepath.Join(dir, "moved")
		require.NoError(t, os.Rename(data, moved))
		run(t, "cp", "-r", "--sparse=always", moved, data)
		requireSick(t, e)
	}, func(t *testing.T, dir string) {
		// Badger may have been writing a table at that moment, by its path, into the copy.
		data := moveBack(t, dir)
		if e, err := sessile.Open(sickOptions(dir)); err == nil {
			require.NoError(t, e.Close())
			requireAcknowledged(t, dir)
		} else {
			require.ErrorIs(t, err, sessile.ErrCorrupt, data)
		}
	}},
	{"tables cut short", plain, func(t *testing.T, dir string) {
		require.NoError(t, sickEngine(t, dir).Close())
		e, err := sessile.Open(sickOptions(dir))
		require.NoError(t, err)
		tables, err := filepath.Glob(filepath.Join(sickOptions(dir).Dir, "badger", "*.sst"))
		require.NoError(t, err)
		require.NotEmpty(t, tables)
		for _, table := range tables {
			require.NoError(t, os.Truncate(table, 0))
		}
		failed := 0
		for i := range sickSessions {
			err := requirePad(e, i)
			if errors.Is(err, sessile.ErrPersistence) || errors.Is(err, sessile.ErrCorrupt) {
				failed++
				continue
			}
			require.NoError(t, err)
		}
		require.NotZero(t, failed)
		fmt.Println("passed")
		os.Exit(0) // what is left of the engine may end the process
	}, func(t *testing.T, dir string) {
		_, err := sessile.Open(sickOptions(dir))
		require.ErrorIs(t, err, sessile.ErrCorrupt)
	}},
}

func moveBack(t *testing.T, dir string) string {
	data := sickOptions(dir).Dir
	require.NoError(t, os.RemoveAll(data))
	require.NoError(t, os.Rename(filepath.Join(dir, "moved"), data))
	return data
}

// A disk is where an engine works.
type disk interface {
	root() string
	again(t *testing.T) // well
}

func (d *loopDisk) root() string { return d.dir }

func (d *loopDisk) again(t *testing.T) { d.unmount(t); d.mount(t) }

func loop(t *testing.T) disk { return newLoopDisk(t, 512<<20) }

// A plainDisk is a directory that stays as it is.
type plainDisk string

func plain(t *testing.T) disk { return plainDisk(t.TempDir()) }

// tmpfs mounts a small file system in memory.
func tmpfs(t *testing.T) disk {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=256m"); err != nil {
		skip(t, "needs root, to mount a small disk: %v", err)
	}
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return plainDisk(dir)
}

func (d plainDisk) root() string     { return string(d) }
func (d plainDisk) again(*testing.T) {}

func TestSickDisk(t *testing.T) {
	if name := os.Getenv("SESSILE_SICK"); name != "" {
		for _, s := range sickDisks {
			if s.name == name {
				s.child(t, os.Getenv("SESSILE_SICK_DIR"))
			}
		}
		fmt.Println("passed")
		return
	}
	c := newCampaign(t, 1, "sick disks")
	for {
		if _, more := c.next(); !more {
			break
		}
		for _, s := range sickDisks {
			t.Run(s.name, func(t *testing.T) {
				d := s.on(t)
				cmd := exec.Command(os.Args[0], "-test.run=^TestSickDisk$", "-test.timeout=2m")
				cmd.Env = append(os.Environ(), "SESSILE_SICK="+s.name, "SESSILE_SICK_DIR="+d.root())
				out, err := cmd.CombinedOutput()
				require.NoError(t, err, "%s", out)
				require.Contains(t, string(out), "passed")
				d.again(t)
				if s.after == nil {
					requireAcknowledged(t, d.root())
				} else {
					s.after(t, d.root())
				}
				c.add("sick disks", 1)
				c.add(s.name, 1)
			})
		}
	}
}

const (
	sickSessions = 2000
	sickReserve  = 64 << 20
)

func sickID(i int) string  { return fmt.Sprint("cold", i) }
func sickPad(i int) []byte { return bytes.Repeat([]byte(sickID(i)), 300) }

func sickOptions(dir string) sessile.Options {
	return sessile.Options{
		Dir: filepath.Join(dir, "data"), MaxMemory: 1 << 20, DiskReserve: -1, CloseTimeout: time.Second,
		FlushInterval: time.Millisecond, IdleTimeout: sessile.NoTimeout,
	}
}

// sickEngine opens one with more sessions than it has memory for; all that is in it is durable.
func sickEngine(t *testing.T, dir string) *sessile.Engine {
	e, err := sessile.Open(sickOptions(dir))
	require.NoError(t, err)
	for i := range sickSessions {
		require.NoError(t, e.CreateID(ctx, sickID(i), func(tx sessile.Txn) error { return tx.Set("pad", sickPad(i)) }))
	}
	require.NoError(t, e.CreateID(ctx, "ended", nil))
	require.NoError(t, e.Delete(ctx, "ended"))
	require.NoError(t, e.CreateID(ctx, "hot", durably(increment)))
	require.NotZero(t, e.Stats().Evictions)
	return e
}

// requirePad returns the error of reading a session, or one that says that it is not what it was.
func requirePad(e *sessile.Engine, i int) error {
	return e.View(ctx, sickID(i), func(tx sessile.Txn) error {
		if v, _ := tx.Peek("pad"); !bytes.Equal(v, sickPad(i)) {
			return fmt.Errorf("%s holds %d bytes", sickID(i), len(v))
		}
		return nil
	})
}

// lookedAt is longer than what the store knows of the disk lasts while the log is written to.
const lookedAt = 20 * time.Millisecond

// requireSick looks at an engine whose disk takes no more writes.
func requireSick(t *testing.T, e *sessile.Engine) {
	time.Sleep(lookedAt)
	err := e.Update(ctx, "hot", durably(increment))
	require.ErrorIs(t, err, sessile.ErrPersistence)
	want := 1 // a checkpoint noticed it first, and nothing was changed
	if errors.Is(err, sessile.ErrDurabilityUnknown) {
		want = 2
	}
	require.EqualValues(t, want, read(t, e, "hot"))
	require.ErrorIs(t, e.Update(ctx, "hot", increment), sessile.ErrPersistence)
	require.EqualValues(t, want, read(t, e, "hot"))
	require.ErrorIs(t, e.Upsert(ctx, "new", nil), sessile.ErrPersistence)
	if err := e.View(ctx, "ended", nil); !errors.Is(err, sessile.ErrNotFound) {
		require.ErrorIs(t, err, sessile.ErrPersistence, "when memory no longer knows of its end")
	}
	for i := range sickSessions {
		if err := requirePad(e, i); err != nil {
			require.ErrorIs(t, err, sessile.ErrPersistence)
		}
	}
	require.ErrorIs(t, e.Flush(ctx), sessile.ErrPersistence)
	require.ErrorIs(t, e.Delete(ctx, "hot"), sessile.ErrDurabilityUnknown)
	require.ErrorIs(t, e.View(ctx, "hot", nil), sessile.ErrNotFound, "a logout takes effect all the same")
	require.Error(t, e.Stats().Failed)
	var incomplete *sessile.ShutdownError
	require.ErrorAs(t, e.Close(), &incomplete)
	require.ErrorIs(t, incomplete, e.Stats().Failed)
}

// putBallast takes room on a disk until only so much is left.
func putBallast(t *testing.T, dir string, left int64) {
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(dir, &st))
	file, err := os.Create(filepath.Join(dir, "ballast"))
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	block := make([]byte, 1<<20)
	for n := int64(st.Bavail)*int64(st.Bsize) - left; n > 0; n -= int64(len(block)) {
		_, err := file.Write(block)
		require.NoError(t, err)
	}
}

// requireFull looks at an engine whose disk takes no more until room is made.
func requireFull(t *testing.T, e *sessile.Engine, makeRoom func()) {
	time.Sleep(lookedAt)
	err := e.Update(ctx, "hot", durably(increment))
	require.ErrorIs(t, err, sessile.ErrDiskFull)
	want := int64(1) // a checkpoint noticed it first, and nothing was changed
	if errors.Is(err, sessile.ErrDurabilityUnknown) {
		want = 2
	}
	require.EqualValues(t, want, read(t, e, "hot"))
	require.ErrorIs(t, e.Update(ctx, "hot", increment), sessile.ErrDiskFull)
	require.ErrorIs(t, e.Upsert(ctx, "new", nil), sessile.ErrDiskFull)
	require.EqualValues(t, want, read(t, e, "hot"))
	require.True(t, e.Stats().DiskFull)
	makeRoom()
	require.Eventually(t, func() bool { return e.Flush(ctx) == nil }, 10*time.Second, time.Millisecond)
	require.Eventually(t, func() bool { return e.Touch(ctx, "hot") == nil && e.Update(ctx, "hot", nil) == nil }, 10*time.Second, time.Millisecond)
	for i := range sickSessions {
		require.NoError(t, requirePad(e, i))
	}
	require.NoError(t, e.Close())
}

// requireAcknowledged looks at what sickEngine made, after requireSick.
func requireAcknowledged(t *testing.T, dir string) {
	e, err := sessile.Open(sickOptions(dir))
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	for i := range sickSessions {
		require.NoError(t, requirePad(e, i))
	}
	require.ErrorIs(t, e.View(ctx, "ended", nil), sessile.ErrNotFound)
	v := read(t, e, "hot")
	require.Contains(t, []int64{1, 2}, v, "the second one was unknown")
	require.NoError(t, sessile.CheckDisk(e))
}

// fsError makes ext4 believe that it has found itself damaged; mounted with errors=remount-ro,
// it takes no more writes then, as it does when its device fails.
func fsError(dir string) error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(mounts)) {
		if f := strings.Fields(line); f[1] == dir {
			return os.WriteFile(filepath.Join("/sys/fs/ext4", filepath.Base(f[0]), "trigger_fs_error"), []byte("test"), 0)
		}
	}
	return fmt.Errorf("%s is not mounted", dir)
}

// A disk without a reserve is filled to the last byte. Badger's files are mapped, so the kernel may
// end the process; nothing that was acknowledged is lost by it.
func TestFullDiskWithoutReserve(t *testing.T) {
	if dir := os.Getenv("SESSILE_FILL_DIR"); dir != "" {
		fillWithoutReserve(t, dir)
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=64m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (that needs root): %v", err)
	}
	defer func() { require.NoError(t, syscall.Unmount(dir, 0)) }()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDiskWithoutReserve$", "-test.timeout=2m")
	cmd.Env = append(os.Environ(), "SESSILE_FILL_DIR="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.Contains(t, string(out), "unexpected fault address", "%s", out)
	} else {
		require.Contains(t, string(out), "refused")
	}
	acked := -1
	for line := range strings.Lines(string(out)) {
		scan(line, "acked %d\n", &acked)
	}
	require.Positive(t, acked, "%s", out)
	t.Logf("%d sessions fit; the process ended: %v", acked+1, err)
	require.NoError(t, os.Remove(filepath.Join(dir, "ballast")))
	e, err := sessile.Open(sickOptions(dir))
	require.NoError(t, err)
	for i := range acked + 1 {
		require.NoError(t, requirePad(e, i))
	}
	require.NoError(t, sessile.CheckDisk(e))
	require.NoError(t, e.Close())
}

func fillWithoutReserve(t *testing.T, dir string) {
	require.NoError(t, os.WriteFile(filepath.Join(dir, "ballast"), make([]byte, 24<<20), 0o600))
	e, err := sessile.Open(sickOptions(dir))
	require.NoError(t, err)
	for i := 0; ; i++ {
		err := e.CreateID(ctx, sickID(i), durably(func(tx sessile.Txn) error { return tx.Set("pad", sickPad(i)) }))
		if errors.Is(err, sessile.ErrPersistence) {
			fmt.Println("refused", err)
			return
		}
		require.NoError(t, err)
		fmt.Println("acked", i)
	}
}
