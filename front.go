package sessile

import (
	"math/bits"
	"sync/atomic"
)

// The front is a cache of the shards' maps: a hot session is found in one line
// instead of the three of a map lookup (table, bucket, entry). It is set-associative: a hash
// belongs to one line, of seven entries, and one word of the line has a byte of each entry's hash, so
// that the entry is found without a branch that could be guessed wrong.
//
// It decides nothing about sessions. An object that is not dead is the one in the
// map, since it is dead before it leaves the map; so whatever an entry holds is either
// the map's answer, or of another id, or dead and passed over.
type front struct {
	lines []frontLine // a power of two
	shift uint        // a hash's line is its upper bits
}

// A frontLine is a cache line. Tags and sessions are not read as one: a tag that does not fit its
// session costs a look into the map, or a session of another id.
type frontLine struct {
	tags     atomic.Uint64 // the byte i is of sessions[i]; the last one stays 0
	sessions [frontWays]atomic.Pointer[session]
}

const (
	frontWays = 7
	frontMin  = 1 << 10 // lines
	frontMax  = 1 << 20
)

func newFront(lines int) *front {
	return &front{make([]frontLine, lines), uint(64 - bits.TrailingZeros(uint(lines)))}
}

func (f *front) line(h uint64) *frontLine { return &f.lines[h>>(f.shift&63)] }

const eachByte = 0x0101010101010101

// tagOf is a byte of the hash that is not 0.
func tagOf(h uint64) uint64 { return h&0x7f | 0x80 }

// match returns a word with the upper bit of each byte set in which tags has the hash's tag. Above the
// first such byte a bit may be set in error (Mycroft's trick, as in xsync's own buckets).
func match(tags, h uint64) uint64 {
	x := tags ^ tagOf(h)*eachByte
	return (x - eachByte) &^ x & (eachByte << 7)
}

// find returns the object of the id, or nil.
func (e *Engine) find(h uint64, id string) *session {
	line := e.front.Load().line(h)
	if way := bits.TrailingZeros64(match(line.tags.Load(), h)) >> 3; way < frontWays {
		if s := line.sessions[way].Load(); s != nil && s.isMidID(id) && s.status() != dead {
			return s
		}
	}
	return e.findBehind(line, h, id)
}

// findBehind looks at the rest of the line, then into the map.
func (e *Engine) findBehind(line *frontLine, h uint64, id string) *session {
	for m := match(line.tags.Load(), h); m != 0; m &= m - 1 {
		way := bits.TrailingZeros64(m) >> 3
		if way == frontWays {
			break
		}
		if s := line.sessions[way].Load(); s != nil && s.isID(id) && s.status() != dead {
			return s
		}
	}
	s := e.shardOf(h).find(h, id)
	if s != nil {
		line.put(h, s)
	}
	return s
}

// put remembers an object, in a free entry if there is one, else in one that the hash says.
func (l *frontLine) put(h uint64, s *session) {
	way := int((h >> 8) % frontWays)
	for i := range l.sessions {
		if old := l.sessions[i].Load(); old == nil || old == s {
			way = i
			break
		}
	}
	l.sessions[way].Store(s)
	for {
		tags := l.tags.Load()
		now := tags&^(0xff<<(8*way)) | tagOf(h)<<(8*way)
		if tags == now || l.tags.CompareAndSwap(tags, now) {
			break
		}
	}
	if s.status() == dead {
		l.sessions[way].CompareAndSwap(s, nil) // it may have died before it was in the entry
	}
}

// replace puts an object in the place of one of the same id.
func (l *frontLine) replace(s, by *session) {
	for i := range l.sessions {
		if l.sessions[i].Load() == s {
			l.sessions[i].CompareAndSwap(s, by)
		}
	}
}

// forget removes a dead object from map and front.
func (e *Engine) forget(sh *shard, h uint64, s *session) {
	line := e.front.Load().line(h)
	line.replace(s, nil)
	sh.remove(h, s)
}

// fitFront gives the front about a line for every four hot sessions, so that one in fifty finds no
// room in its line. It fills anew by use.
func (e *Engine) fitFront(hot int) {
	n := frontMin
	for n*4 < hot && n < frontMax {
		n *= 2
	}
	if have := len(e.front.Load().lines); n > have || n < have/4 {
		e.front.Store(newFront(n))
	}
}
