package sessile

import (
	"runtime"
	"sync/atomic"
	"unsafe"
)

// A session is the one object in memory for an id. It is as large as a cache line, the
// id included, so that a lookup that found the object touches no further line to
// compare it.
//
// Status, pins and the marks of eviction and checkpoint are one word, so "end it
// if nobody pins it" is one compare-and-swap.
//
// # The shard's latch
//
// Held for nanoseconds, by whoever changes or captures the state of any of the
// shard's sessions. It guards priv (the pointer and what it points to), seen, the
// status, every mark but visited, and extra. No user code, I/O or waiting happens under it. The
// session lock comes first.
//
// # Publishing
//
// Commits change priv in place. A reader that finds it unpublished takes the latch
// and sets published; from then on that record is immutable, and the next commit
// installs a clone instead. So streaks of commits and streaks of reads allocate
// nothing, and readers never wait for a callback. See [session.published] for how a reader sees both as one.
type session struct {
	word atomic.Uint32
	lk   relaxedUint32          // the session lock, see lock.go
	priv relaxedPointer[record] // stored under the latch
	seen relaxedInt64           // last-seen, engine time in ms; stored under the latch

	// The delta of the last commit: its offset in the shard's log buffer, if that commit came after the last
	// cut, and its shape, see shapeOf. Guarded by the shard's latch.
	logAt    uint32
	logShape uint32

	name  [inlineID]byte        // length+1 and the id; or 0 and the id is extra.id
	extra atomic.Pointer[extra] // see extraOf
}

const inlineID = 24

// extra is what few sessions need. Guarded by the latch, but for id and next.
type extra struct {
	id     string                  // of more than inlineID-1 bytes; immutable
	next   atomic.Pointer[session] // with the same hash; changed inside the map's Compute
	queue  []*waiter
	fair   bool          // the lock is handed over to the first of the queue
	watch  chan struct{} // closed at the next version or end, for Wait
	loaded chan struct{} // closed when the load has ended
	failed error         // why the load failed, set before loaded is closed
	became *session      // the object that took the place of the loading one, with its pins
	users  []string      // under which the index on disk may still list the session
}

// The word.
const (
	bitPublished uint32 = 1 << iota // readers may have priv
	bitVisited                      // used since the eviction hand last passed
	bitChanged                      // in the shard's list of changed sessions
	bitPending                      // captured by a checkpoint that has not written it yet
	bitTouched                      // seen is newer than any log entry
	bitIndexed                      // the index on disk lists the session under its user
	bitBlind                        // ended without having been loaded
	bitRinged                       // in the shard's ring
	bitBlock                        // has room for a record behind it, see block

	statusShift        = 9
	statusMask  uint32 = 7 << statusShift
	pinShift           = 12
	pinOne      uint32 = 1 << pinShift
	pinMost     uint32 = 1<<(32-pinShift) - 1
)

// The status changes under the latch.
//
//	loading → absent, live, ended, dead (the load failed)
//	absent  → live (a creation), dead (nobody holds it)
//	live    → ended, dead (evicted)
//	ended   → live (a creation), absent (its end is in a checkpoint)
//
// Who finds an object dead looks the id up again.
type status uint32

const (
	loading status = iota << statusShift
	absent
	live
	ended
	dead
)

func statusOf(word uint32) status { return status(word & statusMask) }

func newSession(id string, st status) *session {
	s := new(session)
	s.setID(id)
	s.word.Store(uint32(st))
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
func (s *session) isID(id string) bool { return s.isMidID(id) || s.id() == id }

// isMidID is isID for an id of 8 to inlineID-1 bytes, such as those of the engine's making: by words that overlap, without a call.
func (s *session) isMidID(id string) bool {
	n := len(id)
	if n < 8 || int(s.name[0]) != n+1 {
		return false
	}
	mine, other := unsafe.Pointer(&s.name[1]), unsafe.Pointer(unsafe.StringData(id))
	mid, last := min(8, n-8), n-8
	return *(*[8]byte)(mine) == *(*[8]byte)(other) &&
		*(*[8]byte)(unsafe.Add(mine, mid)) == *(*[8]byte)(unsafe.Add(other, mid)) &&
		*(*[8]byte)(unsafe.Add(mine, last)) == *(*[8]byte)(unsafe.Add(other, last))
}

// mark and unmark set and clear bits that the latch guards.
func (s *session) mark(bits uint32)   { s.word.Or(bits) }
func (s *session) unmark(bits uint32) { s.word.And(^bits) }

// setStatus is called under the latch.
func (s *session) setStatus(st status) {
	for {
		w := s.word.Load()
		if s.word.CompareAndSwap(w, w&^statusMask|uint32(st)) {
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
func (s *session) visit() { s.visitSeen(s.word.Load()) }

// visitSeen is visit for who has read the word just now.
func (s *session) visitSeen(word uint32) {
	if word&bitVisited == 0 {
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
		if w>>pinShift == pinMost { // a million callers hold it just now
			runtime.Gosched()
			continue
		}
		if s.word.CompareAndSwap(w, w+pinOne) {
			return true
		}
	}
}

// tryPin is pin where nothing may be waited for, under the latch.
func (s *session) tryPin() bool {
	for {
		w := s.word.Load()
		if statusOf(w) == dead || w>>pinShift == pinMost {
			return false
		}
		if s.word.CompareAndSwap(w, w+pinOne) {
			return true
		}
	}
}

func (s *session) unpin() { s.word.Add(^(pinOne - 1)) }

// killLocked makes an object dead whose word, seen just now, has no pin, unless it is
// locked or its word has changed.
func (s *session) killLocked(seen uint32) bool {
	if !s.tryLock() {
		return false
	}
	killed := s.word.CompareAndSwap(seen, seen&^statusMask|uint32(dead))
	s.unlockLocked() // nobody has queued: that takes the latch
	return killed
}

// published returns the state if readers may have it, else nil, and the word.
// The pointer is read on both sides of the word: it was the same all the time,
// because a record that was replaced is never installed again, and installLocked clears the bit
// before it stores the next pointer. So the bit is this record's.
func (s *session) published() (*record, uint32) {
	r := s.priv.Load()
	w := s.word.Load()
	if w&(statusMask|bitPublished) != uint32(live)|bitPublished || s.priv.Load() != r {
		return nil, w
	}
	return r, w
}

// isPublished reports, under the latch, whether readers may have the state.
func (s *session) isPublished() bool { return s.word.Load()&bitPublished != 0 }

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
	if s.isPublished() {
		s.unmark(bitPublished)
	}
	s.priv.Store(r)
}
