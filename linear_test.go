package sessile_test

import (
	"errors"
	"fmt"
	"math"
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
	"github.com/stretchr/testify/require"
)

// Histories of all verbs from many goroutines, checked for linearizability: is
// there an order of the operations, each at one instant between its call and its return, in
// which a map of integers would have given the same answers (invariants 4, 5 and 6)?
// Porcupine (Athalye, 2017) searches it. Verbs over several
// sessions connect them, so sessions come in sets of three, and each set is a history.

const (
	linearSets    = 3
	linearInSet   = 3
	linearWorkers = 6
	linearOps     = 70 // of each worker in a round
)

type linearInput struct {
	verb string
	set  int
	a, b int // sessions of the set
	add  int64
}

func (in linearInput) id(i int) string { return fmt.Sprintf("set%d-%d", in.set, i) }

// A linearOutput is what the operation saw.
type linearOutput struct {
	err  string // "", "not found", "exists"
	a, b int64
}

// linearState is the values of one set.
type linearState [linearInSet]int64

const noSession = math.MinInt64

// step is what a map does.
func (s linearState) step(in linearInput, out linearOutput) (bool, linearState) {
	next := s
	a, b := s[in.a], s[in.b]
	missing := a == noSession
	switch in.verb {
	case "transfer", "rollback many", "view many":
		missing = missing || b == noSession
	}
	switch in.verb {
	case "delete":
		next[in.a] = noSession
		return out.err == "", next
	case "create":
		if !missing {
			return out.err == "exists", s
		}
		next[in.a] = in.add
		return out.err == "", next
	case "upsert":
		if out.err == "not found" {
			return missing, s // it ended under the callback
		}
		if missing {
			a = 0
		}
		next[in.a] = a + in.add
		return out.err == "" && out.a == next[in.a], next
	}
	if missing {
		return out.err == "not found", s
	}
	switch in.verb {
	case "update":
		next[in.a] = a + in.add
		return out.err == "" && out.a == next[in.a], next
	case "transfer":
		next[in.a] -= in.add
		next[in.b] += in.add
		return out.err == "" && out.a == next[in.a] && out.b == next[in.b], next
	case "view", "rollback":
		return out.err == "" && out.a == a, s
	case "view many", "rollback many":
		return out.err == "" && out.a == a && out.b == b, s
	case "touch":
		return out.err == "", s
	case "destroy", "expire":
		next[in.a] = noSession
		return out.err == "" && out.a == a, next
	}
	panic(in.verb)
}

var linearModel = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		parts := make([][]porcupine.Operation, linearSets)
		for _, op := range history {
			set := op.Input.(linearInput).set
			parts[set] = append(parts[set], op)
		}
		return parts
	},
	Init: func() any {
		var s linearState
		for i := range s {
			s[i] = noSession
		}
		return s
	},
	Step: func(state, input, output any) (bool, any) {
		return state.(linearState).step(input.(linearInput), output.(linearOutput))
	},
	DescribeOperation: func(input, output any) string {
		in, out := input.(linearInput), output.(linearOutput)
		return fmt.Sprintf("%s %d %d %+d → %s %d %d", in.verb, in.a, in.b, in.add, out.err, out.a, out.b)
	},
	DescribeState: func(state any) string { return fmt.Sprint(state) },
}

var errRollback = errors.New("rolled back")

// do runs the operation on the engine.
func (in linearInput) do(e *sessile.Engine, r *rand.Rand) (out linearOutput) {
	slow := func() {
		switch r.Intn(12) {
		case 0:
			time.Sleep(20 * time.Microsecond)
		case 1, 2:
			runtime.Gosched()
		}
	}
	add := func(delta int64, seen *int64) func(sessile.Txn) error {
		return func(tx sessile.Txn) (err error) {
			slow()
			*seen, err = sessile.Add(tx, counter, delta)
			if r.Intn(20) == 0 {
				tx.Durable()
			}
			return err
		}
	}
	many := func(fnA, fnB func(sessile.Txn) error) func([]sessile.Txn) error {
		return func(txs []sessile.Txn) error {
			slow()
			return errors.Join(fnA(txs[0]), fnB(txs[1]))
		}
	}
	get := func(seen *int64) func(sessile.Txn) error {
		return func(tx sessile.Txn) (err error) { *seen, err = counter.Get(tx); return err }
	}
	a, b := in.id(in.a), in.id(in.b)
	var err error
	switch in.verb {
	case "update":
		err = e.Update(ctx, a, add(in.add, &out.a))
	case "upsert":
		err = e.Upsert(ctx, a, add(in.add, &out.a))
	case "create":
		err = e.CreateID(ctx, a, func(tx sessile.Txn) error { slow(); return counter.Set(tx, in.add) })
	case "delete":
		err = e.Delete(ctx, a)
	case "view":
		err = e.View(ctx, a, func(tx sessile.Txn) error { slow(); return get(&out.a)(tx) })
	case "touch":
		err = e.Touch(ctx, a)
	case "destroy":
		err = e.Update(ctx, a, func(tx sessile.Txn) error { slow(); return errors.Join(get(&out.a)(tx), tx.Destroy()) })
	case "expire":
		err = e.Update(ctx, a, func(tx sessile.Txn) error {
			slow()
			return errors.Join(get(&out.a)(tx), tx.SetDeadline(time.Now().Add(-time.Hour)))
		})
	case "rollback":
		err = e.Update(ctx, a, func(tx sessile.Txn) error {
			return errors.Join(get(&out.a)(tx), add(in.add, new(int64))(tx), errRollback)
		})
	case "transfer":
		err = e.UpdateMany(ctx, []string{a, b}, many(add(-in.add, &out.a), add(in.add, &out.b)))
	case "view many":
		err = e.ViewMany(ctx, []string{a, b}, many(get(&out.a), get(&out.b)))
	case "rollback many":
		err = e.UpdateMany(ctx, []string{a, b}, func(txs []sessile.Txn) error {
			return errors.Join(many(get(&out.a), get(&out.b))(txs), many(add(1, new(int64)), add(1, new(int64)))(txs), errRollback)
		})
	}
	switch {
	case errors.Is(err, sessile.ErrNotFound):
		return linearOutput{err: "not found"}
	case errors.Is(err, sessile.ErrExists):
		return linearOutput{err: "exists"}
	case err != nil && !errors.Is(err, errRollback):
		return linearOutput{err: err.Error()}
	}
	return out
}

var linearVerbs = []string{"update", "update", "update", "upsert", "upsert", "view", "view", "view", "create", "delete", "touch",
	"destroy", "expire", "rollback", "transfer", "transfer", "view many", "view many", "rollback many"}

func TestLinearizable(t *testing.T) {
	next := rounds(t, 25)
	total, n := 0, 0
	for {
		seed, more := next()
		if !more {
			break
		}
		total += linearRound(t, seed)
		if n++; n%200 == 0 {
			progress("linear: %d operations checked", total)
		}
		if t.Failed() {
			break
		}
	}
	t.Logf("%d operations checked", total)
	progress("linear: %d operations checked, %d histories", total, n)
}

// linearRound makes a history and checks it.
func linearRound(t *testing.T, seed int64) int {
	opt := sessile.Options{
		MaxMemory: 1 << 20, FlushInterval: time.Millisecond, CheckpointInterval: 10 * time.Millisecond, IdleTimeout: sessile.NoTimeout,
	}
	e := openOnMem(t, opt)
	stop := make(chan struct{})
	var disturb sync.WaitGroup
	disturb.Go(func() { // every session goes to the disk and comes back, over and over
		for {
			select {
			case <-stop:
				return
			default:
				sessile.Checkpoint(e)
				sessile.EvictAll(e)
			}
		}
	})
	var clock atomic.Int64
	histories := make([][]porcupine.Operation, linearWorkers)
	var wg sync.WaitGroup
	for w := range linearWorkers {
		wg.Go(func() {
			r := rand.New(rand.NewSource(seed*linearWorkers + int64(w)))
			for range linearOps {
				in := linearInput{verb: linearVerbs[r.Intn(len(linearVerbs))], set: r.Intn(linearSets), add: int64(r.Intn(100))}
				in.a = r.Intn(linearInSet)
				in.b = (in.a + 1 + r.Intn(linearInSet-1)) % linearInSet
				op := porcupine.Operation{ClientId: w, Input: in, Call: clock.Add(1)}
				op.Output = in.do(e, r)
				op.Return = clock.Add(1)
				histories[w] = append(histories[w], op)
			}
		})
	}
	wg.Wait()
	close(stop)
	disturb.Wait()
	finish(t, e)
	history := slices.Concat(histories...)
	result, info := porcupine.CheckOperationsVerbose(linearModel, history, time.Minute)
	if result != porcupine.Ok {
		for _, part := range linearModel.Partition(history) {
			if porcupine.CheckOperations(linearModel, part) {
				continue
			}
			slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
			for _, op := range part {
				t.Logf("%4d-%4d by %d: %s", op.Call, op.Return, op.ClientId, linearModel.DescribeOperation(op.Input, op.Output))
			}
		}
		picture := filepath.Join(os.TempDir(), fmt.Sprintf("sessile-history-%d.html", seed))
		err := porcupine.VisualizePath(linearModel, info, picture)
		require.NoError(t, err)
		t.Errorf("the history of seed %d is not linearizable (%v); see %s", seed, result, picture)
	}
	return len(history)
}
