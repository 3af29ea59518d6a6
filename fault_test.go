package sessile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// A faulty store is a real one whose commits can be made to fail or to wait.
type faulty struct {
	store.Store
	fail  atomic.Pointer[error] // returned by Commit and Append, and nothing is written
	lie   atomic.Bool           // the batch is applied all the same
	full  atomic.Bool
	block atomic.Pointer[chan struct{}]
	calls atomic.Int64

	blockGet atomic.Pointer[chan struct{}]
	before   atomic.Pointer[func(ops []store.Op)] // called before each batch
}

func (f *faulty) Get(key, dst []byte) ([]byte, bool, error) {
	if c := f.blockGet.Load(); c != nil {
		<-*c
	}
	return f.Store.Get(key, dst)
}

func (f *faulty) Commit(ops []store.Op) error { return f.write(f.Store.Commit, ops) }

func (f *faulty) Append(entries []store.Op) error { return f.write(f.Store.Append, entries) }

func (f *faulty) write(to func([]store.Op) error, ops []store.Op) error {
	f.calls.Add(1)
	if before := f.before.Load(); before != nil {
		(*before)(ops)
	}
	if c := f.block.Load(); c != nil {
		<-*c
	}
	if f.full.Load() {
		return fmt.Errorf("%w: by the test", store.ErrFull)
	}
	if err := f.fail.Load(); err != nil {
		if f.lie.Load() {
			return errors.Join(*err, to(ops))
		}
		return *err
	}
	return to(ops)
}

func openFaulty(t *testing.T, opt sessile.Options) (*sessile.Engine, *faulty) {
	t.Helper()
	st, err := store.OpenBadger(opt.Dir, store.BadgerOptions{DiskReserve: -1})
	require.NoError(t, err)
	f := &faulty{Store: st}
	e, err := sessile.OpenOn(opt, f)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e, f
}

func durably(fn func(sessile.Txn) error) func(sessile.Txn) error {
	return func(tx sessile.Txn) error { tx.Durable(); return fn(tx) }
}

func TestStoreFailureIsFinal(t *testing.T) {
	for _, lie := range []bool{false, true} {
		t.Run(fmt.Sprint("applied=", lie), func(t *testing.T) {
			opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Minute}
			e, f := openFaulty(t, opt)
			require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
			require.NoError(t, e.CreateID(ctx, "b", nil))
			cause := errors.New("the disk burns")
			f.lie.Store(lie)
			f.fail.Store(&cause)
			err := e.Update(ctx, "a", durably(increment))
			require.ErrorIs(t, err, sessile.ErrDurabilityUnknown)
			require.ErrorIs(t, err, sessile.ErrPersistence)
			require.ErrorIs(t, err, cause)
			calls := f.calls.Load()
			f.fail.Store(nil)

			require.EqualValues(t, 2, read(t, e, "a"), "the commit stands in memory")
			require.ErrorIs(t, e.Update(ctx, "a", increment), sessile.ErrPersistence)
			require.ErrorIs(t, e.Upsert(ctx, "c", nil), sessile.ErrPersistence)
			require.ErrorIs(t, e.Flush(ctx), sessile.ErrPersistence)
			require.ErrorIs(t, e.View(ctx, "cold", nil), sessile.ErrPersistence)
			require.ErrorIs(t, e.Delete(ctx, "b"), sessile.ErrDurabilityUnknown)
			require.ErrorIs(t, e.View(ctx, "b", nil), sessile.ErrNotFound, "it has ended all the same")
			require.ErrorIs(t, e.Stats().Failed, cause)
			require.Equal(t, calls, f.calls.Load(), "the store is left alone")
			var incomplete *sessile.ShutdownError
			require.ErrorAs(t, e.Close(), &incomplete)
			require.ErrorIs(t, incomplete, cause)

			e = open(t, opt)
			want := int64(1)
			if lie {
				want = 2
			}
			require.Equal(t, want, read(t, e, "a"))
			require.NoError(t, sessile.CheckDisk(e))
		})
	}
}

// While a failure goes from shard to shard, who meets it is told of it and nothing else, and what begins then is not
// committed anywhere.
func TestStoreFailureHalfway(t *testing.T) {
	e := openOnMem(t, sessile.Options{Dir: "in memory", FlushInterval: time.Minute})
	ids := make([]string, 200)
	for i := range ids {
		ids[i] = create(t, e, increment)
	}
	cause := errors.New("the disk burns")
	sealed, goOn := sessile.FailHalfway(e, cause)
	told := 0
	for _, id := range ids {
		if !sealed(id) {
			continue
		}
		err := e.Delete(ctx, id)
		require.ErrorIs(t, err, sessile.ErrDurabilityUnknown)
		require.ErrorIs(t, err, cause)
		told++
	}
	require.Positive(t, told)
	late := make(chan error)
	began := 0
	for _, id := range ids {
		if !sealed(id) {
			began++
			go func() { late <- e.Update(ctx, id, increment) }()
		}
	}
	require.Positive(t, began)
	time.Sleep(10 * time.Millisecond) // they must not commit, which no signal can tell
	goOn()
	for range began {
		require.ErrorIs(t, <-late, cause)
	}
	require.Error(t, e.Close())
}

// A deadStore takes nothing and does not come to its end.
type deadStore struct {
	store.Store
	dead chan struct{}
}

var errDead = errors.New("no answer")

func (s deadStore) Commit([]store.Op) error { return errDead }

func (s deadStore) Close() error {
	<-s.dead
	return s.Store.Close()
}

// Open tells what has failed although the store cannot be closed.
func TestOpenOnADeadDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		st, err := store.NewMem().Open()
		require.NoError(t, err)
		dead := make(chan struct{})
		began := time.Now()
		_, err = sessile.OpenOn(sessile.Options{Dir: "in memory", CloseTimeout: time.Minute}, deadStore{st, dead})
		require.ErrorIs(t, err, sessile.ErrPersistence)
		require.ErrorIs(t, err, errDead)
		require.Equal(t, time.Minute, time.Since(began))
		close(dead)
	})
}

func TestFullDiskIsWaitedOut(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Millisecond}
	e, f := openFaulty(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	require.NoError(t, e.CreateID(ctx, "b", durably(increment)))
	f.full.Store(true)
	err := e.Update(ctx, "a", durably(increment))
	require.ErrorIs(t, err, sessile.ErrDurabilityUnknown)
	require.ErrorIs(t, err, sessile.ErrDiskFull)
	require.ErrorIs(t, e.Update(ctx, "a", increment), sessile.ErrDiskFull)
	require.EqualValues(t, 2, read(t, e, "a"))
	require.ErrorIs(t, e.Delete(ctx, "b"), sessile.ErrDiskFull)
	require.ErrorIs(t, e.View(ctx, "b", nil), sessile.ErrNotFound)
	require.True(t, e.Stats().DiskFull)

	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	require.Error(t, e.Flush(short))
	f.full.Store(false)
	require.Eventually(t, func() bool { return e.Update(ctx, "a", durably(increment)) == nil }, 10*time.Second, time.Millisecond)
	e = reopen(t, e, opt)
	require.EqualValues(t, 3, read(t, e, "a"))
	require.ErrorIs(t, e.View(ctx, "b", nil), sessile.ErrNotFound)
}

// While a write hangs, callers are bound by their contexts, memory goes on, and Close returns.
func TestHangingDisk(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Millisecond, CloseTimeout: 50 * time.Millisecond}
	e, f := openFaulty(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	gate := make(chan struct{})
	f.block.Store(&gate)
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	err := e.Update(short, "a", durably(increment))
	require.ErrorIs(t, err, sessile.ErrDurabilityUnknown)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NoError(t, e.Update(ctx, "a", increment))
	require.EqualValues(t, 3, read(t, e, "a"))
	require.Eventually(t, func() bool { return e.Stats().OldestUndurable > 0 }, 10*time.Second, time.Millisecond, "it is counted in ticks")
	var incomplete *sessile.ShutdownError
	require.ErrorAs(t, e.Close(), &incomplete)
	require.True(t, incomplete.Undurable)
	f.block.Store(nil)
	close(gate)
	require.NoError(t, e.Shutdown(ctx))
	opt.CloseTimeout = 0
	e = open(t, opt)
	require.EqualValues(t, 3, read(t, e, "a"))
}

// Durable callers that come while a write is out share the next one.
func TestGroupCommit(t *testing.T) {
	e, f := openFaulty(t, sessile.Options{Dir: t.TempDir(), FlushInterval: time.Minute, CheckpointInterval: time.Hour})
	const n = 100
	for i := range n {
		require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), nil))
	}
	require.NoError(t, e.Flush(ctx))
	gate := make(chan struct{})
	f.block.Store(&gate)
	before := f.calls.Load()
	var wg sync.WaitGroup
	commits := e.Stats().Commits
	for i := range n {
		wg.Go(func() { require.NoError(t, e.Update(ctx, fmt.Sprint(i), durably(increment))) })
	}
	require.Eventually(t, func() bool { return e.Stats().Commits == commits+n }, 10*time.Second, time.Millisecond)
	f.block.Store(nil)
	close(gate)
	wg.Wait()
	require.LessOrEqual(t, f.calls.Load()-before, int64(3))
}

// With a bounded log, commits wait for the checkpoint before they lock anything; ends do not wait.
func TestBackPressure(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), MaxLogBytes: 1 << 20, FlushInterval: time.Millisecond, CheckpointInterval: time.Hour}
	e, f := openFaulty(t, opt)
	require.NoError(t, e.CreateID(ctx, "b", nil))
	require.NoError(t, e.Flush(ctx))
	gate := make(chan struct{})
	f.block.Store(&gate)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	var err error
	n := 0
	for ; err == nil && n < 1000; n++ {
		err = e.Upsert(short, fmt.Sprint("s", n), func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 30<<10)) })
	}
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Less(t, e.Stats().LogBytes, int64(2<<20))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.Error(t, e.Delete(gone, "b"))
	require.ErrorIs(t, e.View(ctx, "b", nil), sessile.ErrNotFound, "an end needs no room")
	f.block.Store(nil)
	close(gate)
	for i := range 200 {
		require.NoError(t, e.Upsert(ctx, fmt.Sprint("s", i), func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 30<<10)) }))
	}
	require.NoError(t, e.Close())
	e = open(t, opt)
	require.EqualValues(t, max(200, n-1), e.Stats().Sessions)
	require.NoError(t, sessile.CheckDisk(e))
}

// A group larger than one transaction of the store goes in parts.
func TestLargeGroup(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Minute, CheckpointInterval: time.Hour, MaxSessionSize: 512 << 10}
	e := open(t, opt)
	ids := make([]string, 12)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	require.NoError(t, e.UpsertMany(ctx, ids, func(txs []sessile.Txn) error {
		for i, tx := range txs {
			require.NoError(t, tx.Set("pad", make([]byte, 500<<10+i)))
			tx.Durable()
		}
		return nil
	}))
	child := copyDir(t, opt.Dir)
	opt.Dir = child
	e = open(t, opt)
	for i, id := range ids {
		require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error {
			v, _ := tx.Peek("pad")
			require.Len(t, v, 500<<10+i)
			return nil
		}))
	}
	require.NoError(t, sessile.CheckDisk(e))
}

// copyDir copies a directory that is in use, as a crash would leave it: the
// store maps its files, so the copy has what was written.
func copyDir(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	out, err := exec.Command("cp", "-r", "--sparse=always", dir+"/.", to).CombinedOutput()
	require.NoError(t, err, "%s", out)
	return to
}

func TestDamagedRecord(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir()}
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", as("ann")))
	require.NoError(t, e.CreateID(ctx, "b", nil))
	finish(t, e)
	st, err := store.OpenBadger(opt.Dir, store.BadgerOptions{DiskReserve: -1})
	require.NoError(t, err)
	v, ok, err := st.Get([]byte("ra"), nil)
	require.NoError(t, err)
	require.True(t, ok)
	v[len(v)-1] ^= 1
	require.NoError(t, st.Commit([]store.Op{{Key: []byte("ra"), Value: v}}))
	require.NoError(t, st.Close())
	e, err = sessile.Open(opt)
	require.NoError(t, err)
	require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrCorrupt)
	require.ErrorIs(t, e.Update(ctx, "a", increment), sessile.ErrCorrupt)
	require.ErrorIs(t, e.Upsert(ctx, "a", increment), sessile.ErrCorrupt, "damage is not absence")
	require.NoError(t, e.View(ctx, "b", nil))
	require.NoError(t, e.Delete(ctx, "a"), "it can be ended")
	require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
	require.NotZero(t, e.Stats().Corrupt)
	require.NoError(t, e.Close())
	e = open(t, opt)
	require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
}

func TestLostLog(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir()}
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	old := copyDir(t, opt.Dir)
	require.NoError(t, e.Update(ctx, "a", durably(increment)))
	require.NoError(t, e.Update(ctx, "a", durably(increment)))
	finish(t, e)
	mark, err := os.ReadFile(filepath.Join(opt.Dir, "MARK"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(old, "MARK"), mark, 0o600))
	opt.Dir = old
	_, err = sessile.Open(opt)
	require.ErrorIs(t, err, sessile.ErrCorrupt)
	opt.AcceptDataLoss = true
	e = open(t, opt)
	require.EqualValues(t, 1, read(t, e, "a"))
}

// A real full disk, in a process of its own, because it could end it.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("SESSILE_FULL_DIR"); dir != "" {
		fillDisk(t, dir)
		return
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=160m"); err != nil {
		t.Skipf("a small disk cannot be mounted here (that needs root): %v", err)
	}
	defer func() { require.NoError(t, syscall.Unmount(dir, 0)) }()
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), "SESSILE_FULL_DIR="+dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "PASS: TestFullDisk")
}

func fillDisk(t *testing.T, dir string) {
	opt := sessile.Options{Dir: filepath.Join(dir, "data"), DiskReserve: 64 << 20, FlushInterval: time.Millisecond}
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	var fs syscall.Statfs_t
	for {
		require.NoError(t, syscall.Statfs(dir, &fs))
		if int64(fs.Bavail)*int64(fs.Bsize) < 60<<20 {
			break
		}
		_, err := f.Write(make([]byte, 1<<20))
		require.NoError(t, err)
	}
	require.NoError(t, f.Close())
	err = e.Update(ctx, "a", durably(increment))
	require.ErrorIs(t, err, sessile.ErrDurabilityUnknown)
	require.ErrorIs(t, err, sessile.ErrDiskFull)
	require.ErrorIs(t, e.Update(ctx, "a", increment), sessile.ErrDiskFull)
	require.EqualValues(t, 2, read(t, e, "a"))
	_, err = sessile.Open(sessile.Options{Dir: filepath.Join(dir, "other"), DiskReserve: 64 << 20})
	require.ErrorIs(t, err, sessile.ErrDiskFull)
	require.NoError(t, os.Remove(ballast))
	require.Eventually(t, func() bool { return e.Update(ctx, "a", durably(increment)) == nil }, 10*time.Second, time.Millisecond)
	require.NoError(t, e.Close())
	e, err = sessile.Open(opt)
	require.NoError(t, err)
	require.EqualValues(t, 3, read(t, e, "a"))
	require.NoError(t, e.Close())
}

// A record is never newer than the log: the checkpoint captures a state that was
// committed after its first cut, and the disk dies when it has written the records.
func TestCheckpointWaitsForTheLog(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Minute, CheckpointInterval: time.Hour}
	e, f := openFaulty(t, opt)
	require.NoError(t, e.CreateID(ctx, "b", nil))
	sessile.Checkpoint(e)
	require.NoError(t, e.CreateID(ctx, "a", nil))
	var once sync.Once
	before := func(ops []store.Op) {
		switch ops[0].Key[0] {
		case 'l': // the first cut is taken
			once.Do(func() {
				require.NoError(t, e.Update(ctx, "b", increment))
				require.NoError(t, e.Update(ctx, "a", increment))
			})
		case 'w': // the records are written
			cause := errors.New("the disk dies")
			f.fail.Store(&cause)
		}
	}
	f.before.Store(&before)
	failed := e.Stats().PersistErrors
	go sessile.Checkpoint(e)
	require.Eventually(t, func() bool { return e.Stats().PersistErrors > failed }, 10*time.Second, time.Millisecond)
	require.Error(t, e.Close())

	e = open(t, opt)
	a, b := read(t, e, "a"), read(t, e, "b")
	require.EqualValues(t, 1, a)
	require.Equal(t, a, b, "a is newer than b's older commit")
}

// A session that ended while it was being loaded does not come back with the load.
func TestLateLoad(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir()}
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", as("ann")))
	finish(t, e)
	e, f := openFaulty(t, opt)
	gate := make(chan struct{})
	f.blockGet.Store(&gate)
	viewed := make(chan error)
	go func() { viewed <- e.View(ctx, "a", nil) }()
	require.Eventually(t, func() bool { return e.Stats().Misses == 1 }, 5*time.Second, time.Millisecond)
	short, cancel := context.WithTimeout(ctx, time.Millisecond)
	defer cancel()
	require.ErrorIs(t, e.View(short, "a", nil), context.DeadlineExceeded, "callers wait under their own context")
	require.ErrorIs(t, e.Delete(short, "a"), sessile.ErrDurabilityUnknown)
	require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound, "it has ended, whatever the disk does")
	f.blockGet.Store(nil)
	close(gate)
	require.ErrorIs(t, <-viewed, sessile.ErrNotFound)
	require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
	require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
	require.Empty(t, sessionsOf(t, e, "ann"))
}

// A touch that was too small to be logged survives the eviction of its session.
func TestEvictionKeepsTouches(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), MaxMemory: 1 << 20, FlushInterval: time.Millisecond, CheckpointInterval: 20 * time.Millisecond}
	e := open(t, opt)
	require.NoError(t, e.CreateID(ctx, "a", nil))
	sessile.Checkpoint(e)
	seen := func() (at time.Time) {
		for info, err := range e.All(ctx) {
			require.NoError(t, err)
			if info.ID == "a" {
				at = info.LastSeen
			}
		}
		return at
	}
	created := seen()
	require.Eventually(t, func() bool {
		require.NoError(t, e.Touch(ctx, "a"))
		return seen().After(created)
	}, 5*time.Second, time.Millisecond)
	touched := seen()
	cold := func() bool {
		for i := range 1000 {
			require.NoError(t, e.Upsert(ctx, fmt.Sprint(i), func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 3000)) }))
		}
		return e.Stats().Evictions > 2000
	}
	require.Eventually(t, cold, 20*time.Second, time.Millisecond)
	require.Equal(t, touched, seen())
	misses := e.Stats().Misses
	require.NoError(t, e.View(ctx, "a", nil))
	require.Greater(t, e.Stats().Misses, misses, "it was evicted")
	require.Equal(t, touched, seen())
}

// Each group is the history up to one instant: whichever one the disk dies
// after, no transfer is there by half.
func TestGroupsEndAtOneInstant(t *testing.T) {
	const accounts, start = 40, 1000
	ids := make([]string, accounts)
	for i := range ids {
		ids[i] = fmt.Sprint("account", i)
	}
	for round := range 10 {
		opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Millisecond, CheckpointInterval: time.Hour}
		e, f := openFaulty(t, opt)
		require.NoError(t, e.UpsertMany(ctx, ids, func(txs []sessile.Txn) error {
			for _, tx := range txs {
				require.NoError(t, counter.Set(tx, start))
			}
			txs[0].Durable()
			return nil
		}))
		last := f.calls.Load() + int64(round)
		before := func([]store.Op) {
			if f.calls.Load() > last {
				cause := errors.New("the disk dies")
				f.fail.Store(&cause)
			}
		}
		f.before.Store(&before)
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				for i := g; ; i += 7 {
					pair := []string{ids[i%accounts], ids[(i*13+1)%accounts]}
					err := e.UpdateMany(ctx, pair, func(txs []sessile.Txn) error {
						if _, err := sessile.Add(txs[0], counter, -1); err != nil {
							return err
						}
						_, err := sessile.Add(txs[1], counter, 1)
						return err
					})
					if err != nil {
						if !errors.Is(err, sessile.ErrPersistence) {
							t.Error(err)
						}
						return
					}
				}
			})
		}
		wg.Wait()
		require.Error(t, e.Close())
		e = open(t, opt)
		total, moved := int64(0), false
		for _, id := range ids {
			v := read(t, e, id)
			total += v
			moved = moved || v != start
		}
		require.EqualValues(t, accounts*start, total)
		require.True(t, moved || round == 0)
	}
}
