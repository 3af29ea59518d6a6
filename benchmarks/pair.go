package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/puzpuzpuz/xsync/v3"
	"github.com/sessile-go/sessile"
)

var counter = sessile.NewKey[int64]("counter")

// A rawSession is what one could write by hand: a mutex and bytes, behind a map.
type rawSession struct {
	mu    sync.Mutex
	value [8]byte
	_     [payload - 8]byte
}

// newRawSession writes to the session, so that its memory is there: else the first access would pay for a page fault.
func newRawSession() *rawSession {
	r := new(rawSession)
	r.value[0] = 1
	return r
}

// fillCounter makes a session of payload bytes: a counter and a few strings.
func fillCounter(tx sessile.Txn) error {
	rest := payload - len("counter") - 9 - len("csrf") - 33 - len("name") - 20 - len("profile")
	return errors.Join(counter.Set(tx, 1), tx.Set("csrf", make([]byte, 33)), tx.Set("name", make([]byte, 20)), tx.Set("profile", make([]byte, rest)))
}

// A population is the same sessions in an engine and in a raw map.
type population struct {
	engine *sessile.Engine
	raw    *xsync.MapOf[string, *rawSession]
	ids    []string
}

// populate makes n sessions, in memory when dir is empty.
func populate(ctx context.Context, n int, dir string) (*population, error) {
	e, err := sessile.Open(sessile.Options{Dir: dir, InMemory: dir == "", MaxMemory: 16 << 30})
	if err != nil {
		return nil, err
	}
	p := &population{engine: e, raw: xsync.NewMapOf[string, *rawSession](), ids: make([]string, n)}
	for i := range p.ids {
		if p.ids[i], err = e.Create(ctx, fillCounter); err != nil {
			return nil, errors.Join(err, e.Close())
		}
		p.raw.Store(strings.Clone(p.ids[i]), newRawSession())
	}
	return p, e.Flush(ctx)
}

func (p *population) close() error { return p.engine.Close() }

const sequence = 1 << 18 // accesses drawn in advance, a power of two

// draw returns a sequence of accesses.
func (p *population) draw(kind string) []string {
	next := drawer(kind, len(p.ids), rand.New(rand.NewPCG(1, 1)))
	seq := make([]string, sequence)
	for i := range seq {
		seq[i] = p.ids[next()]
	}
	// Each access brings an id of its own, in memory just written, as a request does: not the string that the
	// map holds.
	all := strings.Join(seq, "")
	for i := range seq {
		n := len(seq[i])
		seq[i], all = all[:n], all[n:]
	}
	return seq
}

// update sets an int64 key, n times, from access at on.
func (p *population) update(ctx context.Context, seq []string, at, n int) error {
	for i := at; i < at+n; i++ {
		err := p.engine.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { return counter.Set(tx, int64(i)) })
		if err != nil {
			return err
		}
	}
	return nil
}

// updateRaw is Load, Mutex and an 8-byte write.
func (p *population) updateRaw(seq []string, at, n int) error {
	for i := at; i < at+n; i++ {
		r, ok := p.raw.Load(seq[i&(sequence-1)])
		if !ok {
			return errMissing
		}
		r.mu.Lock()
		binary.LittleEndian.PutUint64(r.value[:], uint64(i))
		r.mu.Unlock()
	}
	return nil
}

// view reads an int64 key.
func (p *population) view(ctx context.Context, seq []string, at, n int) error {
	sum := int64(0)
	for i := at; i < at+n; i++ {
		err := p.engine.View(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error {
			v, err := counter.Get(tx)
			sum += v
			return err
		})
		if err != nil {
			return err
		}
	}
	return use(sum)
}

// viewRaw is Load and an 8-byte read.
func (p *population) viewRaw(seq []string, at, n int) error {
	sum := int64(0)
	for i := at; i < at+n; i++ {
		r, ok := p.raw.Load(seq[i&(sequence-1)])
		if !ok {
			return errMissing
		}
		sum += int64(binary.LittleEndian.Uint64(r.value[:]))
	}
	return use(sum)
}

var errMissing = errors.New("a raw session is missing")

// use keeps the compiler from leaving out what nobody reads.
//
//go:noinline
func use(int64) error { return nil }

// A timed is one side of a comparison: it does its operation n times, from access at on.
type timed struct {
	run func(at, n int) error
	at  int
	per int // operations in a slice, calibrated
	// settle waits, outside the time, until what run left behind in the background is done; may be nil.
	settle func() error
}

// sideNames are the labels in a profile of the first side and the others.
var sideNames = [2]string{"sessile", "base"}

// interleave measures sides in turn, in slices of a fourth of d, four of each a round, and returns
// nanoseconds per operation, by side and round.
func interleave(ctx context.Context, rounds int, d time.Duration, sides ...*timed) ([][]float64, error) {
	const slices = 4
	perOp := make([][]float64, len(sides))
	for i, s := range sides {
		if err := s.calibrate(d / slices); err != nil {
			return nil, fmt.Errorf("side %d: %w", i, err)
		}
	}
	for range rounds {
		spent := make([]time.Duration, len(sides))
		for slice := range slices {
			for k := range sides {
				i := (k + slice) % len(sides) // each begins in turn
				var took time.Duration
				var err error
				pprof.Do(ctx, pprof.Labels("side", sideNames[min(i, 1)]), func(context.Context) { took, err = sides[i].slice() })
				if err != nil {
					return nil, fmt.Errorf("side %d: %w", i, err)
				}
				spent[i] += took
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		for i, s := range sides {
			perOp[i] = append(perOp[i], float64(spent[i])/float64(s.per*slices))
		}
	}
	return perOp, nil
}

// calibrate finds how many operations take d, which also warms up.
func (s *timed) calibrate(d time.Duration) error {
	for s.per = 1; ; {
		took, err := s.slice()
		if err != nil {
			return err
		}
		if took >= d/2 {
			s.per = max(1, int(float64(s.per)*float64(d)/float64(took)))
			return nil
		}
		if took < d/100 {
			s.per *= 10
		} else {
			s.per = int(float64(s.per)*float64(d)/float64(took)) + 1
		}
	}
}

func (s *timed) slice() (time.Duration, error) {
	begin := time.Now()
	err := s.run(s.at, s.per)
	took := time.Since(begin)
	s.at += s.per
	if err == nil && s.settle != nil {
		err = s.settle()
	}
	return took, err
}
