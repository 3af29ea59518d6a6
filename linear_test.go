package sessile_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// Histories of all verbs from many goroutines, checked for linearizability: is
// there an order of the operations, each at one instant between its call and its return, in
// which linear_model_test.go would have given the same answers (invariants 4 to 7 and 11)?
// Porcupine (Athalye, 2017) searches it.
//
// Verbs over several sessions connect them, so sessions come in sets, and each set is a history. Sessions
// that Create makes are sets of one. Verbs that look at many sessions, each at an instant of its own
// (All, ByUser, DeleteUser, KeepNewest), count as one operation for each session. Meanwhile everything
// is evicted and written by checkpoints all the time, and some sessions expire by the clock. At the
// end the engine is closed, in half of the rounds under the running operations, opened again, and looked at once more.
const (
	linearSets    = 3
	linearInSet   = 3
	linearWorkers = 6
	linearOps     = 100 // of each worker in a round
)

// A linearSet is some sessions and what was done with them.
type linearSet struct {
	ids    []string
	tokens [linearInSet]atomic.Pointer[string] // the last ones made

	mu  sync.Mutex
	ops []porcupine.Operation
}

func (s *linearSet) user(i int) string { return fmt.Sprintf("%s-user%d", s.ids[0], i) }

func (s *linearSet) keep(op porcupine.Operation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ops = append(s.ops, op)
}

// A linearRun is one round.
type linearRun struct {
	t     *testing.T
	e     *sessile.Engine
	disk  *store.Mem // nil: in memory
	clock atomic.Int64

	closing bool // under the running operations
	full    bool // the disk is, now and then

	mu   sync.Mutex
	sets []*linearSet
}

func (run *linearRun) addSet(set *linearSet) {
	run.mu.Lock()
	defer run.mu.Unlock()
	run.sets = append(run.sets, set)
}

// anySet returns one of the sets of several sessions, or one of the last that were made.
func (run *linearRun) anySet(r *rand.Rand) *linearSet {
	run.mu.Lock()
	defer run.mu.Unlock()
	recent := min(len(run.sets), linearSets+4)
	i := r.Intn(recent)
	if i >= linearSets {
		i = len(run.sets) - 1 - (i - linearSets)
	}
	return run.sets[i]
}

// excused reports whether an operation may have been refused, and has done nothing.
func (run *linearRun) excused(err error) bool {
	return !errors.Is(err, sessile.ErrDurabilityUnknown) &&
		(run.closing && errors.Is(err, sessile.ErrClosed) || run.full && errors.Is(err, sessile.ErrDiskFull))
}

func TestLinearizable(t *testing.T) {
	c := newCampaign(t, 25, "operations", "histories", "evictions", "loads", "checkpoints", "expirations", "lock waits", "closed meanwhile")
	for {
		seed, more := c.next()
		if !more {
			break
		}
		linearRound(t, c, seed)
	}
	c.requireAll("evictions", "loads", "checkpoints", "expirations", "lock waits", "closed meanwhile")
}

// linearRound makes histories and checks them.
func linearRound(t *testing.T, c *campaign, seed int64) {
	r := rand.New(rand.NewSource(seed))
	run := &linearRun{t: t, closing: r.Intn(2) == 0, full: r.Intn(40) == 0}
	opt := sessile.Options{
		Dir: "in memory", MaxMemory: 1 << 20, FlushInterval: time.Millisecond, CheckpointInterval: 10 * time.Millisecond, IdleTimeout: sessile.NoTimeout,
	}
	if r.Intn(8) == 0 {
		opt.Dir, opt.InMemory, run.full = "", true, false
		var err error
		run.e, err = sessile.Open(opt)
		require.NoError(t, err)
	} else {
		run.disk = store.NewMem()
		run.open(opt)
	}
	for i := range linearSets {
		set := &linearSet{}
		for j := range linearInSet {
			set.ids = append(set.ids, fmt.Sprintf("set%d-%d", i, j))
		}
		run.addSet(set)
	}
	if run.full {
		var commits atomic.Int64
		run.disk.SetFault(func([]store.Op) store.Fault {
			if commits.Add(1)%8 == 0 {
				return store.FaultFull
			}
			return store.FaultNone
		})
	}
	run.work(seed)
	if run.disk != nil {
		run.disk.SetFault(nil)
	}
	if run.closing {
		c.add("closed meanwhile", 1)
	} else if !run.full {
		require.NoError(t, sessile.Check(run.e))
	}
	stats := run.e.Stats()
	require.NoError(t, run.e.Close())
	if run.disk != nil {
		run.open(opt)
		require.NoError(t, sessile.CheckDisk(run.e))
		run.lookAgain(seed)
		require.NoError(t, run.e.Close())
	}
	for _, set := range run.sets {
		c.add("operations", int64(len(set.ops)))
		c.add("histories", 1)
		if run.check(set, seed); t.Failed() {
			break
		}
	}
	c.add("evictions", int64(stats.Evictions))
	c.add("loads", int64(stats.Loads))
	c.add("checkpoints", int64(stats.Checkpoints))
	c.add("expirations", int64(stats.Expirations))
	c.add("lock waits", int64(stats.LockWaits))
}

func (run *linearRun) open(opt sessile.Options) {
	st, err := run.disk.Open()
	require.NoError(run.t, err)
	run.e, err = sessile.OpenOn(opt, st)
	require.NoError(run.t, err)
}

// work lets workers and watchers work, and everything else get in their way.
func (run *linearRun) work(seed int64) {
	var disturb, workers sync.WaitGroup
	stop := make(chan struct{})
	if run.disk != nil {
		disturb.Go(func() { // every session goes to the disk and comes back, over and over
			for {
				select {
				case <-stop:
					return
				default:
					sessile.AskForCheckpoint(run.e)
					sessile.EvictAll(run.e)
					runtime.Gosched()
				}
			}
		})
	}
	watching, endWatch := context.WithCancel(ctx)
	var watchers sync.WaitGroup
	watched := make([]atomic.Uint64, linearSets)
	for i := range watched {
		set := run.sets[i] // before the workers add theirs
		watchers.Go(func() { run.watch(watching, set, seed, i, &watched[i]) })
	}
	var begun atomic.Int64
	for i := range linearWorkers {
		workers.Go(func() {
			w := &linearWorker{run: run, client: i, r: rand.New(rand.NewSource(seed*linearWorkers + int64(i)))}
			for range linearOps {
				if run.closing && begun.Add(1) == linearWorkers*linearOps*3/4 {
					if err := run.e.Close(); err != nil {
						run.t.Errorf("close under load: %v", err)
					}
				}
				w.step()
			}
		})
	}
	workers.Wait()
	if !run.closing && !run.full {
		run.wake(watched)
	}
	endWatch()
	watchers.Wait()
	close(stop)
	disturb.Wait()
}

// watch follows the first session of a set with Wait, and makes it anew when it has ended.
func (run *linearRun) watch(ctx context.Context, set *linearSet, seed int64, i int, seen *atomic.Uint64) {
	client := (1+linearInSet)*linearWorkers + i
	w := &linearWorker{run: run, client: client, r: rand.New(rand.NewSource(seed - 1 - int64(i)))}
	for ctx.Err() == nil {
		after := seen.Load()
		op, err := w.call(set, linearInput{verb: "waited", at: []int{0}}, func(out *linearOutput) error {
			info, err := run.e.Wait(ctx, set.ids[0], after)
			if err == nil && info.Version <= after {
				return fmt.Errorf("version %d is not above %d", info.Version, after)
			}
			out.seen[0] = linearSeen{there: err == nil, user: info.User, version: info.Version}
			if err == nil {
				seen.Store(info.Version)
			}
			return err
		})
		switch {
		case errors.Is(err, sessile.ErrNotFound):
			w.transact(set, linearInput{verb: "upsert", at: []int{0}, change: linearChange{add: 1}})
		case errors.Is(err, context.Canceled), errors.Is(err, sessile.ErrClosed):
			return
		}
		set.keep(op)
	}
}

// wake changes each watched session: no watcher may sleep through it.
func (run *linearRun) wake(watched []atomic.Uint64) {
	w := &linearWorker{run: run, client: (1+linearInSet)*linearWorkers + len(watched), r: rand.New(rand.NewSource(0))}
	for i := range watched {
		set := run.sets[i]
		w.transact(set, linearInput{verb: "upsert", at: []int{0}, change: linearChange{add: 1, deadline: "none"}})
		want := w.transact(set, linearInput{verb: "view", at: []int{0}}).Output.(linearOutput).seen[0].version
		require.Eventually(run.t, func() bool { return watched[i].Load() >= want }, 10*time.Second, 100*time.Microsecond, "a Wait was not woken")
	}
}

// lookAgain looks at all sessions after the engine was opened again.
func (run *linearRun) lookAgain(seed int64) {
	w := &linearWorker{run: run, r: rand.New(rand.NewSource(seed))}
	run.closing, run.full = false, false
	for _, set := range run.sets {
		w.list(set, "all")
		w.list(set, "by user")
		for i := range set.ids {
			w.transact(set, linearInput{verb: "view", at: []int{i}})
			w.resolve(set, i)
		}
	}
}

// check looks for an order of the set's operations. A history without one is saved as a picture.
func (run *linearRun) check(set *linearSet, seed int64) {
	t := run.t
	result, info := porcupine.CheckOperationsVerbose(linearModel, set.ops, 30*time.Second)
	if result == porcupine.Ok {
		return
	}
	slices.SortFunc(set.ops, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range set.ops {
		t.Logf("%4d-%4d by %d: %s", op.Call, op.Return, op.ClientId, linearModel.DescribeOperation(op.Input, op.Output))
	}
	picture := filepath.Join(os.TempDir(), fmt.Sprintf("sessile-history-%d.html", seed))
	require.NoError(t, porcupine.VisualizePath(linearModel, info, picture))
	t.Errorf("the history of seed %d is not linearizable (%v); see %s", seed, result, picture)
}
