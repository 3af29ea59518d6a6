package sessile

import (
	"sync/atomic"

	"github.com/puzpuzpuz/xsync/v3"

	"github.com/sessile-go/sessile/internal/invariants"
)

// A shard holds a part of the sessions: the map from id to object, the open
// part of the write-behind log, and the ring over which the eviction hand moves.
//
// The map's key is the hash of the id, so that its entries are small and
// comparing keys touches no string; sessions whose hashes collide form a chain
// through extra.next, which only the map's Compute changes.
type shard struct {
	sessions *xsync.MapOf[uint64, *session]
	index    int // its place among the shards

	_ [64 - 16]byte // the latch and what each commit touches: a cache line of their own

	mu latch
	// Guarded by mu. It is the last lock taken: nothing is locked, allocated
	// in bulk or waited for under it.
	version    uint64 // the last one given out
	cut        uint64 // the last one before the open group
	booted     uint64 // the one before the first
	log        []byte // deltas of the open group
	counted    int    // bytes of log that the persister knows of
	dirty      int64  // memory of the sessions changed since their record was written
	dirtyKnown int64  // what of dirty the persister knows of
	sealed     error  // set: nothing is appended any more
	changed    []*session
	ring       []*session // nil: a hole left by a removed session
	holes      int
	hand       int // next in ring to be looked at by the eviction hand
	reuse      int // next in ring to be looked at by readoptLocked
	users      map[string]map[*session]struct{}

	sweep int // position of the sweeper in ring; the sweeper's alone

	_ [64]byte
}

// sessionOverhead is the memory of a hot session beside its record: the object,
// its map entry and bucket share, and its places in ring and front.
const sessionOverhead = 64 + 16 + 32 + 10 + 16

func newShard(index int, epoch uint64) *shard {
	return &shard{
		index:    index,
		sessions: xsync.NewMapOfWithHasher[uint64, *session](func(h, seed uint64) uint64 { return h ^ seed }, xsync.WithGrowOnly()),
		version:  epoch << versionEpochShift,
		cut:      epoch << versionEpochShift,
		booted:   epoch << versionEpochShift,
		users:    make(map[string]map[*session]struct{}),
	}
}

// versionEpochShift leaves 2^40 commits per shard to each of 2^24 Opens.
const versionEpochShift = 40

// find returns the object of the id, or nil.
func (sh *shard) find(h uint64, id string) *session {
	s, _ := sh.sessions.Load(h)
	for s != nil && !s.isID(id) {
		s = s.next()
	}
	return s
}

// findOrAdd returns the object of the id, adding the given one if there is none.
func (sh *shard) findOrAdd(h uint64, id string, add *session) (s *session, added bool) {
	sh.sessions.Compute(h, func(head *session, ok bool) (*session, bool) {
		if !ok {
			s, added = add, true
			return add, false
		}
		for s = head; s != nil; s = s.next() {
			if s.isID(id) {
				return head, false
			}
		}
		add.extraOf().next.Store(head)
		s, added = add, true
		return add, false
	})
	return s, added
}

// replace puts another object of the same id in the place of one.
func (sh *shard) replace(h uint64, s, by *session) {
	sh.sessions.Compute(h, func(head *session, ok bool) (*session, bool) {
		if next := s.next(); next != nil {
			by.extraOf().next.Store(next)
		}
		if head == s {
			return by, false
		}
		for p := head; p != nil; p = p.next() {
			if p.next() == s {
				p.extraOf().next.Store(by)
				break
			}
		}
		return head, !ok
	})
}

// remove takes a dead object out of the map. Readers that stand on it still
// reach the rest of its chain.
func (sh *shard) remove(h uint64, s *session) {
	sh.sessions.Compute(h, func(head *session, ok bool) (*session, bool) {
		if !ok {
			return nil, true
		}
		if head == s {
			next := s.next()
			return next, next == nil
		}
		for p := head; p != nil; p = p.next() {
			if p.next() == s {
				p.extraOf().next.Store(s.next())
				break
			}
		}
		return head, false
	})
}

// adoptLocked puts a session that became live into the ring.
func (sh *shard) adoptLocked(s *session) {
	if s.word.Load()&bitRinged == 0 {
		s.mark(bitRinged)
		sh.ring = append(sh.ring, s)
	}
}

// readoptStep is how many places of the ring are looked at for one that a moved or ended session has left.
const readoptStep = 8

// readoptLocked puts an object that took the place of one in the ring into it: nearly always into a place that has become
// free, so that sessions that move all the time neither lengthen the ring nor keep their old memory alive through it.
func (sh *shard) readoptLocked(s *session) {
	s.mark(bitRinged)
	for range min(readoptStep, len(sh.ring)) {
		if sh.reuse >= len(sh.ring) {
			sh.reuse = 0
		}
		place := &sh.ring[sh.reuse]
		sh.reuse++
		switch {
		case *place == nil:
			sh.holes--
		case (*place).status() != dead:
			continue
		}
		*place = s
		return
	}
	sh.ring = append(sh.ring, s)
}

// addUserLocked lists the session under the user.
func (sh *shard) addUserLocked(user string, s *session) {
	if user == "" {
		return
	}
	m := sh.users[user]
	if m == nil {
		m = make(map[*session]struct{}, 1)
		sh.users[user] = m
	}
	m[s] = struct{}{}
}

func (sh *shard) removeUserLocked(user string, s *session) {
	if m := sh.users[user]; m != nil {
		delete(m, s)
		if len(m) == 0 {
			delete(sh.users, user)
		}
	}
}

// slotLocked returns the session at a place in the ring, nil for a hole, turning the
// places of dead sessions into holes.
func (sh *shard) slotLocked(i int) *session {
	s := sh.ring[i]
	if s != nil && s.status() == dead {
		sh.ring[i] = nil
		sh.holes++
		s = nil
	}
	return s
}

// compactLocked closes the holes when they are a quarter of the ring, keeping the order
// and the positions of hand and sweeper.
func (sh *shard) compactLocked() {
	if sh.holes < 16 || sh.holes*4 < len(sh.ring) {
		return
	}
	kept := sh.ring[:0]
	hand, sweep := sh.hand, sh.sweep
	for i, s := range sh.ring {
		if i == hand {
			sh.hand = len(kept)
		}
		if i == sweep {
			sh.sweep = len(kept)
		}
		if s != nil {
			kept = append(kept, s)
		}
	}
	if hand >= len(sh.ring) {
		sh.hand = len(kept)
	}
	if sweep >= len(sh.ring) {
		sh.sweep = len(kept)
	}
	clear(sh.ring[len(kept):])
	sh.ring = kept
	sh.holes = 0
}

// handStep bounds the places that one call of evict looks at.
const handStep = 256

// evict moves the hand over at most handStep places, while more than the given
// memory is in use, and returns how many sessions it evicted. The policy is SIEVE
// (Zhang et al., NSDI 2024): the ring is in order of arrival, a hit sets one
// bit, and the hand, moving from the oldest towards the newest, clears the bit
// or evicts. A session that is locked, pinned or dirty stays; a clean one that was touched
// since it was logged is given to the next checkpoint.
func (sh *shard) evict(e *Engine, most int64) (evicted int) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.sealed != nil {
		return 0 // by a store that failed, perhaps: what it would give back is not known (invariant 8)
	}
	sh.compactLocked()
	for looked := 0; looked < handStep && looked < len(sh.ring) && e.memory.Load() > most; looked++ {
		if sh.hand >= len(sh.ring) {
			sh.hand = 0
		}
		s := sh.slotLocked(sh.hand)
		sh.hand++
		if s == nil {
			continue
		}
		w := s.word.Load()
		if w&bitVisited != 0 {
			s.unmark(bitVisited)
			continue
		}
		if statusOf(w) != live || w>>pinShift != 0 || w&(bitChanged|bitPending) != 0 {
			continue
		}
		if w&bitTouched != 0 {
			sh.markChangedLocked(s) // its record has an older last-seen (invariant 7)
			continue
		}
		if !s.killLocked(w) {
			continue
		}
		if invariants.Enabled {
			invariants.Assert(e.persist != nil && e.persist.cause() == nil, "%q evicted without a store", s.id())
		}
		sh.ring[sh.hand-1] = nil
		sh.holes++
		e.memory.Add(-s.footprint())
		if user, _ := s.priv.Load().user(); user != "" {
			sh.removeUserLocked(user, s)
		}
		e.forget(sh, e.hash(s.id()), s)
		evicted++
	}
	return evicted
}

// markChangedLocked puts the session into the list that the next checkpoint takes.
func (sh *shard) markChangedLocked(s *session) {
	w := s.word.Load()
	if w&bitChanged != 0 {
		return
	}
	if w&bitPending == 0 {
		sh.dirty += int64(s.priv.Load().size()) + sessionOverhead
	}
	s.mark(bitChanged)
	sh.changed = append(sh.changed, s)
}

// counts are the engine's numbers of sessions, hot and cold. They change under
// the latch of the session's shard, so that a cut captures them exactly.
type counts struct {
	sessions  atomic.Int64
	anonymous atomic.Int64
}
