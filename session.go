package sessile

import (
	"context"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/sessile-go/sessile/internal/invariants"
)

// A session is the one object in memory for an id. It fills one cache line, the
// id included, so that a lookup that found the object touches no further line to
// compare it.
//
// Everything that two goroutines race for is in one word: the session lock, the
// status, the pins and the marks of eviction and checkpoint. So "evict it if it is
// clean, unlocked and unpinned" is one compare-and-swap.
//
// # Session lock
//
// Held by one writing transaction at a time, callback included. Waiters queue in
// extra.queue and get it in arrival order, handed over by the one that releases it.
//
// # The shard's mutex
//
// Held for nanoseconds, by whoever changes or captures the state of any of the
// shard's sessions. It guards priv (the pointer and what it points to), seen, the
// status, every mark but visited, and extra. No user code, I/O or waiting happens under it. The
// session lock comes first.
//
// # Publishing
//
// Commits change priv in place. A reader that finds it unpublished takes the mutex
// and sets published; from then on that record is immutable, and the next commit
// installs a clone instead. So streaks of commits and streaks of reads allocate
// nothing, and readers never wait for a callback. See [session.published] for how a reader sees both as one.
type session struct {
	word atomic.Uint64
	priv atomic.Pointer[record] // stored under the mutex
	seen atomic.Int64           // last-seen, engine time in ms; stored under the mutex

	// The delta of the last commit: its offset in the shard's log buffer and the
	// number of that buffer. Guarded by the shard's mutex.
	logAt  uint32
	logCut uint32

	name  [inlineID]byte        // length+1 and the id; or 0 and the id is extra.id
	extra atomic.Pointer[extra] // see extraOf
}

const inlineID = 24

// extra is what few sessions need. Guarded by the mutex, but for id and next.
type extra struct {
	id     string                  // of more than inlineID-1 bytes; immutable
	next   atomic.Pointer[session] // with the same hash; changed inside the map's Compute
	queue  []*waiter
	watch  chan struct{} // closed at the next version or end, for Wait
	loaded chan struct{} // closed when the load has ended
	failed error         // why the load failed, set before loaded is closed
	users  []string      // under which the index on disk may still list the session
}

// A waiter waits for the session lock. granted is closed when it has it.
type waiter struct {
	granted chan struct{}
}

// The word.
const (
	bitLocked    uint64 = 1 << iota
	bitQueued           // extra.queue is not empty
	bitPublished        // readers may have priv
	bitVisited          // used since the eviction hand last passed
	bitChanged          // in the shard's list of changed sessions
	bitPending          // captured by a checkpoint that has not written it yet
	bitTouched          // seen is newer than any log entry
	bitIndexed          // the index on disk lists the session under its user
	bitBlind            // ended without having been loaded
	bitRinged           // in the shard's ring

	statusShift        = 16
	statusMask  uint64 = 7 << statusShift
	pinShift           = 32
	pinOne      uint64 = 1 << pinShift
)

// The status changes under the mutex.
//
//	loading → absent, live, ended, dead (the load failed)
//	absent  → live (a creation), dead (nobody holds it)
//	live    → ended, dead (evicted)
//	ended   → live (a creation), absent (its end is in a checkpoint)
//
// Who finds an object dead looks the id up again.
type status uint64

const (
	loading status = iota << statusShift
	absent
	live
	ended
	dead
)

func statusOf(word uint64) status { return status(word & statusMask) }

func newSession(id string, st status) *session {
	s := new(session)
	if len(id) < inlineID {
		s.name[0] = byte(len(id) + 1)
		copy(s.name[1:], id)
	} else {
		s.extra.Store(&extra{id: string(append([]byte(nil), id...))})
	}
	s.word.Store(uint64(st))
	return s
}

// id returns the session's id, in the session's own memory.
func (s *session) id() string {
	if n := int(s.name[0]); n != 0 {
		return unsafe.String(&s.name[1], n-1)
	}
	return s.extra.Load().id
}

// isID compares the session's id.
func (s *session) isID(id string) bool {
	if n := int(s.name[0]); n != 0 {
		return string(s.name[1:n]) == id
	}
	return s.extra.Load().id == id
}

// mark and unmark set and clear bits that the mutex guards.
func (s *session) mark(bits uint64)   { s.word.Or(bits) }
func (s *session) unmark(bits uint64) { s.word.And(^bits) }

// setStatus is called under the mutex.
func (s *session) setStatus(st status) {
	for {
		w := s.word.Load()
		if s.word.CompareAndSwap(w, w&^statusMask|uint64(st)) {
			return
		}
	}
}

func (s *session) status() status { return statusOf(s.word.Load()) }

// extraOf returns the extra part, making it if need be.
func (s *session) extraOf() *extra {
	if x := s.extra.Load(); x != nil {
		return x
	}
	s.extra.CompareAndSwap(nil, new(extra))
	return s.extra.Load()
}

// next returns the session in the map's chain of equal hashes.
func (s *session) next() *session {
	if x := s.extra.Load(); x != nil {
		return x.next.Load()
	}
	return nil
}

// visit sets the eviction mark; tested first, so that hits on a hot session
// write nothing.
func (s *session) visit() {
	if s.word.Load()&bitVisited == 0 {
		s.word.Or(bitVisited)
	}
}

// pin keeps the object in the map, live or absent. It fails on a dead one.
func (s *session) pin() bool {
	for {
		w := s.word.Load()
		if statusOf(w) == dead {
			return false
		}
		if s.word.CompareAndSwap(w, w+pinOne) {
			return true
		}
	}
}

func (s *session) unpin() { s.word.Add(^(pinOne - 1)) }

// tryLock takes the session lock if it is free and nobody waits for it. It does
// not look at the status.
func (s *session) tryLock() bool {
	for {
		w := s.word.Load()
		if w&(bitLocked|bitQueued) != 0 {
			return false
		}
		if s.word.CompareAndSwap(w, w|bitLocked|bitVisited) {
			return true
		}
	}
}

// lockSpins is how often a session lock is tried before its caller queues: a
// callback often ends sooner than a goroutine can be parked and woken.
const lockSpins = 30

// lock takes the session lock in arrival order. It returns ErrBusy after the
// engine's LockTimeout or when too many wait, or the context's error.
func (s *session) lock(ctx context.Context, e *Engine, sh *shard) error {
	if s.tryLock() {
		return nil
	}
	if e.spin {
		for range lockSpins {
			w := s.word.Load()
			if w&bitQueued != 0 {
				break
			}
			if w&bitLocked == 0 && s.tryLock() {
				return nil
			}
		}
	}
	sh.mu.Lock()
	x := s.extraOf()
	if len(x.queue) >= e.opt.MaxWaiters {
		sh.mu.Unlock()
		e.count.lockRefusals.Add(1)
		return ErrBusy
	}
	if s.tryLock() {
		sh.mu.Unlock()
		return nil
	}
	me := &waiter{granted: make(chan struct{})}
	x.queue = append(x.queue, me)
	// The holder may have let go since: bitQueued makes it hand over only when it
	// sees the bit, so whoever sets it looks at the lock in the same step.
	for {
		w := s.word.Load()
		if w&bitLocked == 0 {
			// Free: the first in the queue gets it, which need not be this call.
			if s.word.CompareAndSwap(w, w|bitLocked|bitVisited) {
				s.grantLocked(x)
				break
			}
			continue
		}
		if s.word.CompareAndSwap(w, w|bitQueued) {
			break
		}
	}
	sh.mu.Unlock()

	e.count.lockWaits.Add(1)
	timer := time.NewTimer(e.opt.LockTimeout)
	defer timer.Stop()
	var err error
	select {
	case <-me.granted:
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
	for i, q := range x.queue {
		if q == me {
			x.queue = append(x.queue[:i], x.queue[i+1:]...)
			if len(x.queue) == 0 {
				s.unmark(bitQueued)
			}
			sh.mu.Unlock()
			if err == ErrBusy {
				e.count.lockTimeouts.Add(1)
			}
			return err
		}
	}
	// It was granted in the same moment: the lock is had.
	sh.mu.Unlock()
	if ctx.Err() != nil {
		s.unlock(sh)
		return err
	}
	return nil
}

// grantLocked hands the lock, which is held, to the first waiter.
func (s *session) grantLocked(x *extra) {
	first := x.queue[0]
	copy(x.queue, x.queue[1:])
	x.queue[len(x.queue)-1] = nil
	x.queue = x.queue[:len(x.queue)-1]
	if len(x.queue) == 0 {
		x.queue = nil
		s.unmark(bitQueued)
	} else {
		s.mark(bitQueued)
	}
	close(first.granted)
}

// unlock releases the session lock, or hands it to the next waiter.
func (s *session) unlock(sh *shard) {
	for {
		w := s.word.Load()
		if invariants.Enabled {
			invariants.Assert(w&bitLocked != 0, "%q unlocked twice", s.id())
		}
		if w&bitQueued != 0 {
			sh.mu.Lock()
			if x := s.extra.Load(); len(x.queue) > 0 {
				s.grantLocked(x)
				sh.mu.Unlock()
				return
			}
			s.unmark(bitQueued)
			sh.mu.Unlock()
			continue
		}
		if s.word.CompareAndSwap(w, w&^bitLocked) {
			return
		}
	}
}

// published returns the state if readers may have it, else nil, and the word.
// The pointer is read on both sides of the word: it was the same all the time,
// because a record that was replaced is never installed again, and installLocked clears the bit
// before it stores the next pointer. So the bit is this record's.
func (s *session) published() (*record, uint64) {
	r := s.priv.Load()
	w := s.word.Load()
	if w&(statusMask|bitPublished) != uint64(live)|bitPublished || s.priv.Load() != r {
		return nil, w
	}
	return r, w
}

// publishLocked returns the state as an immutable record.
func (s *session) publishLocked() *record {
	s.mark(bitPublished)
	return s.priv.Load()
}

// wakeLocked wakes those who wait for a new version or the end.
func (s *session) wakeLocked() {
	if x := s.extra.Load(); x != nil && x.watch != nil {
		close(x.watch)
		x.watch = nil
	}
}

// installLocked replaces the state by one that nobody else has seen.
func (s *session) installLocked(r *record) {
	if s.word.Load()&bitPublished != 0 {
		s.unmark(bitPublished)
	}
	s.priv.Store(r)
}
