package sessile

import (
	"slices"
	"unsafe"
)

// A block is a session and, in the same allocation, room for its record. So a call that has found the
// session reads both at once, where a record elsewhere would be a cache miss more that waits for the
// first; and the allocator and the collector have one object to look after instead of two.
//
// A session that no longer fits its room, or whose record readers may hold when a commit wants to
// change it, moves: the commit builds the next state in another block, which takes the place of the old one in
// the map, the ring and the lists, all under the latch. The old object is dead, as if it had been evicted, so
// who finds it looks the id up again, and readers keep its memory as long as they need it. While
// somebody pins the object or waits for its lock it cannot move; its record then lies elsewhere.
type block[A any] struct {
	session
	_ A
}

const (
	sessionSize = int(unsafe.Sizeof(session{}))
	// blockStep is the difference between the sizes of blocks; each is a size class of the allocator.
	blockStep = 32
	// blockMost is the largest block. Before larger objects with pointers the allocator puts a word of its own,
	// which would push the session off its cache line; and such records are seldom read as a whole.
	blockMost = 512
)

// newBlocks makes blocks, by the size of their room in steps.
var newBlocks = [...]func() *session{
	2: newBlockOf[[8]uint64], newBlockOf[[12]uint64], newBlockOf[[16]uint64], newBlockOf[[20]uint64], newBlockOf[[24]uint64],
	newBlockOf[[28]uint64], newBlockOf[[32]uint64], newBlockOf[[36]uint64], newBlockOf[[40]uint64], newBlockOf[[44]uint64],
	newBlockOf[[48]uint64], newBlockOf[[52]uint64], newBlockOf[[56]uint64],
}

func newBlockOf[A any]() *session { return &new(block[A]).session }

// newBlock returns an object that is nobody's yet and an empty record with room for at least n bytes of fields, in
// the object's own memory if it is not too large for that.
func newBlock(n int) (*session, *record) {
	size := recordHeader + n + 1 // see newRecord
	if size > blockMost-sessionSize {
		return new(session), newRecord(n)
	}
	steps := (size + blockStep - 1) / blockStep
	s := newBlocks[steps]()
	s.word.Store(bitBlock)
	r := s.own()
	r.room = uint32(steps*blockStep - recordHeader - 1)
	return s, r
}

// own returns the record in the session's own memory, nil if it has no room there.
func (s *session) own() *record {
	if s.word.Load()&bitBlock == 0 {
		return nil
	}
	return (*record)(unsafe.Add(unsafe.Pointer(s), sessionSize))
}

// footprint is the memory that a session in the ring takes.
func (s *session) footprint() int64 {
	n := sessionOverhead
	own, r := s.own(), s.priv.Load()
	n += own.size()
	if r != own {
		n += r.size()
	}
	return int64(n)
}

// setID gives the object its id.
func (s *session) setID(id string) {
	if len(id) < inlineID {
		s.name[0] = byte(len(id) + 1)
		copy(s.name[1:], id)
	} else {
		s.extra.Store(&extra{id: string(append([]byte(nil), id...))})
	}
}

// movable reports whether the session, whose lock the caller holds, could move now.
func (s *session) movable() bool {
	w := s.word.Load()
	st := statusOf(w)
	return (st == live || st == absent) && w&bitBlind == 0 && w>>pinShift == 0 && s.lk.Load()&lockQueued == 0
}

// moveLocked puts a new object with its record in the place of a session whose lock the caller holds, who from
// then on holds the lock of the new one. It reports false, with nothing done, if the session cannot
// move. The list of changed sessions keeps the old object; a checkpoint goes on from there.
func (e *Engine) moveLocked(sh *shard, s, to *session, r *record) bool {
	// Under the latch nobody joins the queue.
	if !s.movable() {
		return false
	}
	w := s.word.Load()
	for w>>pinShift == 0 && !s.word.CompareAndSwap(w, w&^statusMask|uint32(dead)) {
		w = s.word.Load()
	}
	if w>>pinShift != 0 {
		return false // pinned just now
	}
	to.lk.Store(lockHeld)
	e.takePlaceLocked(sh, s, to, r, w)
	if user, _ := s.priv.Load().user(); user != "" {
		sh.removeUserLocked(user, s)
		sh.addUserLocked(user, to)
	}
	s.unlockLocked()
	return true
}

// takePlaceLocked makes to, with the record, the id's live object instead of s, which is dead and whose word was w.
func (e *Engine) takePlaceLocked(sh *shard, s, to *session, r *record, w uint32) {
	to.name = s.name
	if x := s.extra.Load(); x != nil && (x.id != "" || len(x.users) > 0 || x.watch != nil) {
		// The queue is not taken along: nobody is in it, and who comes to s now may join that one still.
		y := &extra{id: x.id, watch: x.watch, users: slices.Clone(x.users)}
		to.extra.Store(y)
		x.watch = nil
	}
	to.priv.Store(r)
	to.seen.Store(s.seen.Load())
	to.logAt, to.logShape = s.logAt, 0
	to.word.Store(to.word.Load() | w&^(statusMask|bitPublished|bitPending|bitRinged|bitBlock) | uint32(live))
	h := e.hash(s.id())
	sh.replace(h, s, to)
	e.front.Load().line(h).replace(s, to)
	if w&bitRinged != 0 {
		e.memory.Add(-s.footprint())
		sh.readoptLocked(to)
	} else {
		sh.adoptLocked(to)
	}
	e.memory.Add(to.footprint())
}
