package sessile

import (
	"context"
	"sync/atomic"
	"time"
)

// tick is how coarse the engine's clock is.
const tick = 5 * time.Millisecond

// clockIdle is how many ticks without a transaction put the clock to sleep.
const clockIdle = 400

// A clock is the engine's time in ms: the wall clock at Open (or what the log
// says it was, if that is later), carried on by the monotonic clock. So a step
// of the wall clock neither revives nor ends anything while the engine runs.
//
// Reading it is one atomic load: a goroutine stores it anew each tick. An idle
// engine puts that goroutine to sleep; cached is then 0, and the first reader
// reads the time itself and wakes it.
type clock struct {
	cached atomic.Int64
	base   int64
	start  time.Time
	wake   chan struct{}
}

func newClock(atLeast int64) *clock {
	start := time.Now()
	c := &clock{base: max(start.UnixMilli(), atLeast), start: start, wake: make(chan struct{}, 1)}
	c.cached.Store(c.base)
	return c
}

// now returns the engine's time in ms, at most a tick old.
func (c *clock) now() int64 {
	if t := c.cached.Load(); t != 0 {
		return t
	}
	return c.exact()
}

// asleep reports whether no transaction has run for a while.
func (c *clock) asleep() bool { return c.cached.Load() == 0 }

// peek returns the time without waking the ticker.
func (c *clock) peek() int64 {
	if t := c.cached.Load(); t != 0 {
		return t
	}
	return c.base + time.Since(c.start).Milliseconds()
}

// exact reads the time itself, and wakes the ticker if it sleeps.
func (c *clock) exact() int64 {
	t := c.base + time.Since(c.start).Milliseconds()
	for {
		old := c.cached.Load()
		if old >= t {
			return old
		}
		if c.cached.CompareAndSwap(old, t) {
			if old == 0 {
				select {
				case c.wake <- struct{}{}:
				default:
				}
			}
			return t
		}
	}
}

// run keeps cached fresh until stop is closed. activity returns a number that
// changes when transactions run; woken is notified at the end of each sleep.
func (c *clock) run(stop <-chan struct{}, activity func() uint64, woken chan struct{}) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	last, idle := activity(), 0
	for {
		select {
		case <-stop:
			return
		case <-ticker.C:
			c.exact()
		}
		if idle++; idle < clockIdle {
			continue
		}
		now := activity()
		if idle = 0; now != last {
			last = now
			continue
		}
		ticker.Stop()
		c.cached.Store(0)
		select {
		case <-stop:
			c.exact()
			return
		case <-c.wake:
			ticker.Reset(tick)
			notify(woken)
		}
	}
}

// A stopContext is a context that ends when stop is closed.
type stopContext struct {
	context.Context
	stop <-chan struct{}
}

func (c stopContext) Done() <-chan struct{} { return c.stop }

func (c stopContext) Err() error {
	select {
	case <-c.stop:
		return context.Canceled
	default:
		return nil
	}
}
