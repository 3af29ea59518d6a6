package sessile

import (
	"errors"
	"fmt"
	"math/bits"
	"runtime"
	"time"

	"github.com/sessile-go/sessile/internal/store"
)

// Open opens the directory of the options, or an engine in memory, and recovers
// what the last life left in the log. It returns ErrDirLocked, ErrDiskFull,
// ErrPersistence when the directory cannot be read or written, ErrCorrupt or ErrUnsupported, wrapped with details, or an error
// that names the option out of range.
func Open(options Options) (*Engine, error) {
	opt := options.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	if opt.InMemory {
		e := newEngine(opt, newClock(0), 1)
		e.start()
		return e, nil
	}
	st, err := openStore(opt)
	if err != nil {
		return nil, err
	}
	return openWith(opt, st)
}

// openWith opens an engine on a store, which it closes on failure.
func openWith(opt Options, st store.Store) (*Engine, error) {
	p, boot, err := newPersister(opt, st)
	if err != nil {
		return nil, errors.Join(err, closeWithin(st, opt.CloseTimeout))
	}
	e := newEngine(opt, newClock(boot.clock), boot.epoch)
	e.live.sessions.Store(boot.sessions)
	e.live.anonymous.Store(boot.anonymous)
	e.persist = p
	p.e = e
	e.adopt(boot) // before there are cuts: a checkpoint that took some of it would end the log of all
	p.start()
	e.start()
	return e, nil
}

// closeWithin closes a store, but waits for it no longer than that: on a dead disk it may never come to an end. The
// directory is locked until it does, or the process ends.
func closeWithin(st store.Store, most time.Duration) error {
	done := make(chan error, 1)
	go func() { done <- st.Close() }()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return fmt.Errorf("sessile: the store has not closed within %v", most)
	}
}

func newEngine(opt Options, c *clock, epoch uint64) *Engine {
	n := shardCount()
	e := &Engine{
		opt:        opt,
		life:       newLifespan(millis(opt.IdleTimeout), millis(opt.Lifetime)),
		shards:     make([]*shard, n),
		shardShift: uint(64 - bits.TrailingZeros(uint(n))),
		seed:       newSeed(),
		reportStep: reportStep(&opt, n),
		spin:       runtime.GOMAXPROCS(0) > 1,
		clock:      c,
		loads:      make(chan struct{}, 64),
		woken:      make(chan struct{}, 1),
		stop:       make(chan struct{}),
	}
	e.updates.init(e)
	e.views.init(e)
	e.front.Store(newFront(frontMin))
	for i := range e.shards {
		e.shards[i] = newShard(i, epoch)
	}
	e.room.open = closedChan
	e.shutdown.done = make(chan struct{})
	return e
}

// millis converts an option; NoTimeout stays negative.
func millis(d time.Duration) int64 {
	if d < 0 {
		return -1
	}
	return d.Milliseconds()
}

var closedChan = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// start starts the background goroutines. Each ends when stop is closed.
func (e *Engine) start() {
	e.workers.Go(func() {
		waited := uint64(0)
		e.clock.run(e.stop, func() uint64 {
			u, running := e.updates.begun()
			v, _ := e.views.begun()
			if running > 0 {
				waited++ // a callback that runs is activity: the watchdog must see it
			}
			return u + v + waited
		}, e.woken)
	})
	e.workers.Go(e.sweepLoop)
}
