package sessile

import "sync/atomic"

// The front is a direct-mapped cache of the shards' maps, of one pointer per
// slot: a hot session is found in one cache line instead of the three of a map lookup (table,
// bucket, entry). It decides nothing. An object that is not dead is the
// one in the map, since it is dead before it leaves the map; so whatever a slot
// holds is either the map's answer, or of another id, or dead and passed over.
type front struct {
	slots []atomic.Pointer[session] // a power of two
}

const (
	frontMin = 1 << 12
	frontMax = 1 << 22
)

func newFront(slots int) *front { return &front{make([]atomic.Pointer[session], slots)} }

func (f *front) slot(h uint64) *atomic.Pointer[session] { return &f.slots[h&uint64(len(f.slots)-1)] }

// find returns the object of the id, or nil.
func (e *Engine) find(h uint64, id string) *session {
	slot := e.front.Load().slot(h)
	if s := slot.Load(); s != nil && s.isID(id) && s.status() != dead {
		return s
	}
	return e.findBehind(slot, h, id)
}

// findBehind asks the map, and remembers its answer.
func (e *Engine) findBehind(slot *atomic.Pointer[session], h uint64, id string) *session {
	s := e.shardOf(h).find(h, id)
	if s != nil {
		slot.Store(s)
		if s.status() == dead {
			slot.CompareAndSwap(s, nil) // it may have died before it was in the slot
		}
	}
	return s
}

// forget removes a dead object from map and front.
func (e *Engine) forget(sh *shard, h uint64, s *session) {
	e.front.Load().slot(h).CompareAndSwap(s, nil)
	sh.remove(h, s)
}

// fitFront gives the front about a slot for each hot session. It fills anew by use.
func (e *Engine) fitFront(hot int) {
	n := frontMin
	for n < hot && n < frontMax {
		n *= 2
	}
	if have := len(e.front.Load().slots); n > have || n < have/4 {
		e.front.Store(newFront(n))
	}
}
