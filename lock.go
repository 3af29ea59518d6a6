package sessile

import (
	"context"
	"slices"
	"time"

	"github.com/sessile-go/sessile/internal/invariants"
)

// # The session lock
//
// Held by one writing transaction at a time, callback included. Waiters queue in extra.queue and get it in arrival
// order. A release frees the lock and wakes the first of them, but who comes before that one
// runs may take it. Handed to a goroutine that sleeps, the lock would stay held for as long as it takes to wake, everyone
// who comes meanwhile would have to queue, and so on for ever. A waiter that was overtaken and has waited for mostOvertaken makes
// the lock fair: then it is handed from waiter to waiter, until it comes to one that has not waited as long, or
// that is the last. (The algorithm is that of Go's sync.Mutex.)
//
// Outside of the shard's latch a lock that is free is taken, queue or not, and one that has no queue released.
// All else happens under it; so a commit, which holds that latch anyway, releases the lock by a plain store.
//
// When the lock is free and the queue is not empty, the first waiter is awake and will look.
const (
	lockFree   uint32 = 0
	lockHeld   uint32 = 1
	lockQueued uint32 = 2 // extra.queue is not empty
)

// A waiter waits for the session lock. Guarded by the latch, but for the channel.
type waiter struct {
	wake    chan struct{} // has room for one
	woken   bool          // it was sent there, and has not looked since
	granted bool          // it has the lock, and is out of the queue
}

// tryLock takes the session lock if it is free and nobody waits for it. It does
// not look at the status.
func (s *session) tryLock() bool { return s.lk.CompareAndSwap(lockFree, lockHeld) }

// overtake takes the session lock if it is free.
func (s *session) overtake() bool {
	return s.tryLock() || s.lk.CompareAndSwap(lockQueued, lockHeld|lockQueued)
}

// spinLock tries for a moment: a callback often ends sooner than a goroutine can be parked and woken.
func (s *session) spinLock(e *Engine) bool {
	if e.spin {
		for range lockSpins {
			if s.lk.Load()&lockHeld == 0 && s.overtake() {
				return true
			}
		}
	}
	return false
}

// lockSpins is how often a session lock is tried before its caller queues.
const lockSpins = 30

// mostOvertaken is how long a waiter may have waited and still find the lock taken by who came later: longer than a queue of
// a hundred short callbacks takes, and no more than a few callbacks of the long kind. sync.Mutex has 1 ms.
const mostOvertaken = 200 * time.Microsecond

// lock takes the session lock, waiting for it if need be. It returns ErrBusy after the
// engine's LockTimeout or when too many wait, or the context's error.
func (s *session) lock(ctx context.Context, e *Engine, sh *shard) error {
	if s.overtake() || s.spinLock(e) {
		return nil
	}
	me := &waiter{wake: make(chan struct{}, 1)}
	since := time.Now()
	sh.mu.Lock()
	x := s.extraOf()
	if len(x.queue) >= e.opt.MaxWaiters {
		sh.mu.Unlock()
		e.count.lockRefusals.Add(1)
		return ErrBusy
	}
	had := s.enqueueLocked(x, me)
	sh.mu.Unlock()
	if had {
		return nil
	}

	e.count.lockWaits.Add(1)
	timer := time.NewTimer(e.opt.LockTimeout)
	defer timer.Stop()
	for {
		var err error
		select {
		case <-me.wake:
			had := s.spinLock(e)
			long := time.Since(since) >= mostOvertaken
			sh.mu.Lock()
			had = s.takeLocked(x, me, had, long)
			sh.mu.Unlock()
			if !had {
				continue
			}
			// A context that ended first wins, even where both were seen at once.
			if err := ctx.Err(); err != nil {
				s.unlock(sh)
				return err
			}
			return nil
		case <-ctx.Done():
			err = ctx.Err()
		case <-timer.C:
			err = ErrBusy
		}
		sh.mu.Lock()
		left := s.leaveLocked(x, me)
		sh.mu.Unlock()
		switch {
		case left && err == ErrBusy:
			e.count.lockTimeouts.Add(1)
			return err
		case left:
			return err
		case ctx.Err() != nil:
			s.unlock(sh)
			return err
		}
		return nil // it was granted in the same moment: the lock is had
	}
}

// enqueueLocked puts a waiter into the queue, or takes the lock for it if that
// has become free.
func (s *session) enqueueLocked(x *extra, w *waiter) (had bool) {
	for {
		if s.overtake() {
			return true
		}
		// The holder may let go at any moment: it looks at the queue only if it sees the mark.
		if l := s.lk.Load(); l == lockHeld|lockQueued || l == lockHeld && s.lk.CompareAndSwap(lockHeld, lockHeld|lockQueued) {
			x.queue = append(x.queue, w)
			return false
		}
	}
}

// takeLocked is called by a waiter that was woken: had if it has taken the lock since, long if it has waited for
// mostOvertaken. It reports whether the waiter has the lock now; if not, it is woken again by a release.
func (s *session) takeLocked(x *extra, w *waiter, had, long bool) bool {
	if !w.granted {
		if invariants.Enabled {
			invariants.Assert(x.queue[0] == w, "%q: who was woken is not the first", s.id())
		}
		if !had && !s.overtake() {
			w.woken, x.fair = false, long // whoever holds it hands it over then
			return false
		}
		s.popLocked(x)
	}
	x.fair = x.fair && long
	return true
}

// popLocked takes the first waiter, which has the lock, out of the queue.
func (s *session) popLocked(x *extra) {
	x.queue = slices.Delete(x.queue, 0, 1)
	if len(x.queue) == 0 {
		x.queue, x.fair = nil, false
		s.lk.Store(lockHeld)
	}
}

// leaveLocked takes a waiter out of the queue; false if it has been granted the lock.
func (s *session) leaveLocked(x *extra, w *waiter) bool {
	if w.granted {
		return false
	}
	i := slices.Index(x.queue, w)
	x.queue = slices.Delete(x.queue, i, i+1)
	if len(x.queue) == 0 {
		x.queue, x.fair = nil, false
		for l := s.lk.Load(); !s.lk.CompareAndSwap(l, l&^lockQueued); l = s.lk.Load() {
		}
	} else if w.woken && s.lk.Load()&lockHeld == 0 {
		x.queue[0].rouse() // in the place of w
	}
	return true
}

// rouse wakes a waiter, which then looks what it has.
func (w *waiter) rouse() {
	if !w.woken {
		w.woken = true
		w.wake <- struct{}{}
	}
}

// unlock releases the session lock.
func (s *session) unlock(sh *shard) {
	if s.lk.CompareAndSwap(lockHeld, lockFree) {
		return
	}
	sh.mu.Lock()
	s.unlockLocked()
	sh.mu.Unlock()
}

// unlockLocked is unlock under the latch.
func (s *session) unlockLocked() {
	l := s.lk.Load()
	if invariants.Enabled {
		invariants.Assert(l&lockHeld != 0, "%q unlocked twice", s.id())
	}
	if l&lockQueued == 0 {
		s.lk.Store(lockFree)
		return
	}
	x := s.extra.Load()
	first := x.queue[0]
	if x.fair {
		first.granted = true
		s.popLocked(x)
	} else {
		s.lk.Store(lockQueued)
	}
	first.rouse()
}
