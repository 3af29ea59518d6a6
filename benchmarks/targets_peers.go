package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/benchmarks/peers"
)

// add is Update as a read-modify-write.
func (p *population) add(ctx context.Context, seq []string, at, n int) error {
	for i := at; i < at+n; i++ {
		err := p.engine.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error {
			_, err := sessile.Add(tx, counter, 1)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settle lets the flusher finish, so that its rest does not slow down the other side.
func (p *population) settle() error { return p.engine.Flush(context.Background()) }

// badgerTarget is target 5. One goroutine a side; Badger needs no conflict detection then.
func badgerTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	p, err := populate(ctx, a.Scale.TargetDisk, filepath.Join(a.Dir, "sessile"))
	if err != nil {
		return nil, err
	}
	defer p.close()
	db, err := badger.Open(peers.BadgerOptions(filepath.Join(a.Dir, "badger"), false).WithDetectConflicts(false))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	for _, id := range p.ids {
		if err := batch.Set([]byte(id), make([]byte, payload)); err != nil {
			return nil, err
		}
	}
	if err := batch.Flush(); err != nil {
		return nil, err
	}
	seq := p.draw("zipf")
	// Slices are long, so that what a side leaves to its flushes and compactions falls into its own time, mostly.
	perOp, err := interleave(ctx, a.Scale.Rounds, 4*a.Scale.TargetSlice,
		&timed{run: func(at, n int) error { return p.add(ctx, seq, at, n) }, settle: p.settle},
		&timed{run: func(at, n int) error {
			for i := at; i < at+n; i++ {
				if err := badgerAdd(db, seq[i&(sequence-1)]); err != nil {
					return err
				}
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return speedOf(perOp, len(p.ids)), nil
}

// badgerAdd is a read-modify-write transaction.
func badgerAdd(db *badger.DB, id string) error {
	return db.Update(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(id))
		if err != nil {
			return err
		}
		v, err := item.ValueCopy(nil)
		if err != nil {
			return err
		}
		binary.LittleEndian.PutUint64(v, binary.LittleEndian.Uint64(v)+1)
		return txn.Set([]byte(id), v)
	})
}

const (
	durableCallers  = 512
	durableSessions = 1000
)

// durable makes n durable Updates from 512 goroutines at once.
func (p *population) durable(ctx context.Context, seq []string, at, n int) error {
	return fromMany(durableCallers, n, func(i int) error {
		return p.engine.Update(ctx, seq[(at+i)&(sequence-1)], func(tx sessile.Txn) error {
			tx.Durable()
			return counter.Set(tx, int64(i))
		})
	})
}

// fromMany calls fn with 0 to n-1 from several goroutines, until one fails.
func fromMany(callers, n int, fn func(i int) error) error {
	var next atomic.Int64
	var first atomic.Pointer[error]
	var wg sync.WaitGroup
	for range min(n, callers) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n) && first.Load() == nil; i = next.Add(1) - 1 {
				if err := fn(int(i)); err != nil {
					first.CompareAndSwap(nil, &err)
				}
			}
		})
	}
	wg.Wait()
	if err := first.Load(); err != nil {
		return *err
	}
	return nil
}

// durableTarget measures durable Updates beside a base that writes one thing after another.
func durableTarget(ctx context.Context, a jobArgs, base func(seq []string, at, n int) error) (*TargetResult, error) {
	p, err := populate(ctx, durableSessions, filepath.Join(a.Dir, "sessile"))
	if err != nil {
		return nil, err
	}
	defer p.close()
	seq := p.draw("uniform")
	perOp, err := interleave(ctx, a.Scale.Rounds, 2*a.Scale.TargetSlice,
		&timed{run: func(at, n int) error { return p.durable(ctx, seq, at, n) }},
		&timed{run: func(at, n int) error { return base(seq, at, n) }})
	if err != nil {
		return nil, err
	}
	return speedOf(perOp, durableSessions), nil
}

// syncedTarget is target 6.
func syncedTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	db, err := badger.Open(peers.BadgerOptions(filepath.Join(a.Dir, "badger"), true).WithDetectConflicts(false))
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return durableTarget(ctx, a, func(seq []string, at, n int) error {
		for i := at; i < at+n; i++ {
			err := db.Update(func(txn *badger.Txn) error {
				return txn.Set([]byte(seq[i&(sequence-1)]), make([]byte, payload))
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// fdatasyncTarget is target 7.
func fdatasyncTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	kind, _ := peers.Find(peers.Durable, "fdatasync alone")
	file, err := kind.Open(peers.Config{Regime: peers.Durable, Dir: a.Dir})
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return durableTarget(ctx, a, func(_ []string, _, n int) error {
		for range n {
			if err := file.Change("", false); err != nil {
				return err
			}
		}
		return nil
	})
}

const peerSessions = 10_000 // of targets 8 and 9

// scsTarget is target 8, redisTarget target 9. One caller at a time would leave Redis's core idle between
// calls, and on a virtual machine pay more for waking it than for the script; so several call at once there.
func scsTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	return peerTarget(ctx, a, peers.Memory, "scs memstore", 1)
}

func redisTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	return peerTarget(ctx, a, peers.WriteBehind, "redis, script", lossCallers)
}

// peerTarget measures one counter raised on each side, by one goroutine on ours, then how many increments of one session from several
// goroutines are lost on each.
func peerTarget(ctx context.Context, a jobArgs, r peers.Regime, name string, callers int) (*TargetResult, error) {
	kind, ok := peers.Find(r, name)
	if !ok {
		return nil, fmt.Errorf("no peer %q", name)
	}
	dir := filepath.Join(a.Dir, "peer")
	if err := mkdir(dir); err != nil {
		return nil, err
	}
	peer, err := kind.Open(peers.Config{Regime: r, Dir: dir, Size: payload, Callers: lossCallers})
	if err != nil {
		return nil, err
	}
	defer peer.Close()
	other, ok := peer.(peers.Adder)
	if !ok {
		return nil, fmt.Errorf("peer %q is no Adder", name)
	}
	p, err := populate(ctx, peerSessions, filepath.Join(a.Dir, "sessile"))
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := peer.Fill(p.ids); err != nil {
		return nil, err
	}
	seq := p.draw("uniform")
	perOp, err := interleave(ctx, a.Scale.Rounds, a.Scale.TargetSlice,
		&timed{run: func(at, n int) error { return p.add(ctx, seq, at, n) }, settle: p.settle},
		&timed{run: func(at, n int) error {
			return fromMany(callers, n, func(i int) error { return other.Add(seq[(at+i)&(sequence-1)]) })
		}})
	if err != nil {
		return nil, err
	}
	result := speedOf(perOp, peerSessions)
	ours, theirs, err := lossOfTarget(ctx, p, peer, other)
	result.Note = fmt.Sprintf("callers of the peer: %d, of Sessile: 1; then one session, %d increments from %d goroutines: lost %d here, %d there", callers, lossIncrements, lossCallers, ours, theirs)
	if err == nil && ours != 0 {
		err = fmt.Errorf("the engine lost %d increments", ours)
	}
	return result, err
}

const (
	lossCallers    = 8
	lossIncrements = 8000
)

// lossOfTarget raises one new session's counter from several goroutines, on both sides.
func lossOfTarget(ctx context.Context, p *population, peer peers.Peer, other peers.Adder) (ours, theirs int64, err error) {
	id := idOf(1 << 50)
	zero := func(tx sessile.Txn) error { return counter.Set(tx, 0) }
	if err := errors.Join(p.engine.CreateID(ctx, id, zero), peer.Create(id)); err != nil {
		return 0, 0, err
	}
	err = errors.Join(
		fromMany(lossCallers, lossIncrements, func(int) error {
			return p.engine.Update(ctx, id, func(tx sessile.Txn) error { _, err := sessile.Add(tx, counter, 1); return err })
		}),
		fromMany(lossCallers, lossIncrements, func(int) error { return other.Add(id) }))
	if err != nil {
		return 0, 0, err
	}
	sum, err := sessile.Read(ctx, p.engine.Session(id), counter)
	if err != nil {
		return 0, 0, err
	}
	pair, err := peer.Read(id)
	return lossIncrements - sum, lossIncrements - pair.A, err
}
