package sessile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/sessile-go/sessile/internal/invariants"
	"github.com/sessile-go/sessile/internal/seal"
	"github.com/sessile-go/sessile/internal/store"
)

// A checkpoint moves the changed sessions' states from the log to their records:
//
//	cut G_lo    with the lists of sessions changed since the last checkpoint
//	capture     a batch of them, each under the latch of its shard
//	cut G_hi    and wait until it is durable: a record must not be newer than the log
//	write       the batch, each record with its index entries in one transaction
//	...         until the lists are done
//	mark        raise the low-water mark to G_lo, in one key
//	collect     delete the groups at or below it
//
// A crash in between leaves records that are newer than the mark. Redo from the
// mark on passes through older values but ends in the same state, because G_hi, with
// everything the records hold, is in the log (invariant 1).
//
// While a captured session is not yet written it is pending, and whoever changes
// it puts it into the next list. Only what is neither is clean.

// The other keys of the store: 'm' format and index key, 'e' epoch, 'w' low-water
// mark, 'r'|id a record, 'u'|user length|user|id an index entry.
var (
	metaKey  = []byte("m")
	epochKey = []byte("e")
	lowKey   = []byte("w")
)

func recordKey(id string) []byte { return append(append(make([]byte, 0, 1+len(id)), 'r'), id...) }

// indexPrefix is the part of an index key that says the user, hashed when the
// directory is encrypted.
func (p *persister) indexPrefix(user string) []byte {
	name := []byte(user)
	if p.names != nil {
		name = seal.NameHash(p.names, user)
	}
	k := append(make([]byte, 0, 3+len(name)+32), 'u')
	k = binary.BigEndian.AppendUint16(k, uint16(len(name)))
	return append(k, name...)
}

func (p *persister) indexKey(user, id string) []byte { return append(p.indexPrefix(user), id...) }

// sealRecord returns the record's value: the version in the clear, then the
// envelope, bound to id and version.
func (p *persister) sealRecord(key []byte, version uint64, plain []byte) []byte {
	v := make([]byte, 8, 8+len(plain)+p.seal.Overhead())
	binary.LittleEndian.PutUint64(v, version)
	return p.seal.Seal(v, plain, append(slices.Clip(key), v[:8]...))
}

// openRecord is the inverse.
func (p *persister) openRecord(key, value []byte) (r *record, seen int64, err error) {
	if len(value) < 8 {
		return nil, 0, fmt.Errorf("%w: record %q of %d bytes", ErrCorrupt, key[1:], len(value))
	}
	plain, err := p.seal.Open(nil, value[8:], append(slices.Clip(key), value[:8]...))
	if err != nil {
		return nil, 0, fmt.Errorf("record %q: %w", key[1:], sealError(err))
	}
	r, seen, err = decodeRecord(plain, binary.LittleEndian.Uint64(value))
	if err != nil {
		return nil, 0, fmt.Errorf("record %q: %w", key[1:], err)
	}
	return r, seen, nil
}

func sealError(err error) error {
	if errors.Is(err, seal.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return fmt.Errorf("%w: %w", ErrUnsupported, err)
}

// checkpointLoop is the checkpointer.
func (p *persister) checkpointLoop() {
	ticker := time.NewTicker(p.e.opt.CheckpointInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-p.checkC:
		case <-p.failed:
			return
		case <-p.stopCheck:
			return
		}
		p.checkpoint(nil)
	}
}

// captureBytes is about how much is captured before it is written, and
// recordTxnBytes about how much one transaction of records takes, so that groups are not held up
// behind it.
const (
	captureBytes   = 8 << 20
	recordTxnBytes = 1 << 20
)

// checkpoint does one checkpoint and reports whether it is complete. With an error to
// seal with, the first cut is the final one.
func (p *persister) checkpoint(sealWith error) bool {
	// Whoever shut the gate on figures that were old by then has it opened here.
	defer p.relieve()
	started := time.Now()
	lo, ok := p.requestCut(cutRequest{changed: true, seal: sealWith})
	if !ok {
		return false
	}
	wrote := false
	var b batch
	for i, list := range lo.changed {
		for _, s := range list {
			p.capture(&b, p.e.shards[i], s)
			if b.size >= captureBytes {
				if !p.writeBatch(&b) {
					return false
				}
				wrote = true
			}
		}
	}
	if len(b.items) > 0 {
		if !p.writeBatch(&b) {
			return false
		}
		wrote = true
	}
	if !wrote && lo.number == p.low {
		return true
	}
	if sealWith != nil {
		// Nothing commits any more, and sessions that had ended unseen are counted by now.
		lo.live, lo.number = p.e.groupCounts(), max(lo.number, b.group)
	}
	if !p.raise(lo.number, lo.live) || !p.collect(lo.number) {
		return false
	}
	p.e.count.checkpoints.Add(1)
	p.e.count.checkpointTime.Add(int64(time.Since(started)))
	return true
}

// A batch is captured sessions on their way to their records.
type batch struct {
	items []captured
	size  int
	seen  int64  // the latest last-seen
	group uint64 // the group that the log was cut at for it
}

type captured struct {
	s     *session
	sh    *shard
	ops   []store.Op
	users []string // index entries that ops delete
	blind bool     // the record on disk says what index entry to delete
	user  string   // of a live session
	ended bool
}

// capture takes a session's state as it is now.
func (p *persister) capture(b *batch, sh *shard, s *session) {
	c := captured{s: s, sh: sh}
	var plain []byte
	var version uint64
	var user string
	indexed := true
	sh.mu.Lock()
	if s.status() == dead {
		s = sh.find(p.e.hash(s.id()), s.id()) // it has moved since, and the object in its place has all its changes
	}
	if invariants.Enabled {
		invariants.Assert(s != nil && s.word.Load()&(bitChanged|bitPending) == bitChanged, "a session of the list is not to be captured")
	}
	if s == nil || s.word.Load()&(bitChanged|bitPending) != bitChanged {
		sh.mu.Unlock() // captured already; if it has changed since, it is in the next list
		return
	}
	c.s = s
	w := s.word.Load()
	c.blind = w&bitBlind != 0 // also of one created anew: what it was before is still to be counted
	switch statusOf(w) {
	case live:
		r := s.priv.Load()
		b.seen = max(b.seen, s.seen.Load())
		version = r.version
		plain = r.appendDisk(make([]byte, 0, recordDiskHead+int(r.used)), s.seen.Load())
		if w&bitTouched != 0 {
			s.unmark(bitTouched) // the record says it
		}
		indexed = w&bitIndexed != 0
		user, _ = r.user()
	case ended:
		c.ended = true
	default:
		s.unmark(bitChanged)
		sh.mu.Unlock()
		return
	}
	if x := s.extra.Load(); x != nil {
		// Its present user stays noted: if it leaves that one before this is written, the entry is
		// still to be deleted.
		c.users = slices.DeleteFunc(slices.Clone(x.users), func(u string) bool { return u == user })
	}
	c.user = user
	s.unmark(bitChanged)
	s.mark(bitPending)
	sh.mu.Unlock()

	id := s.id()
	key := recordKey(id)
	if c.ended {
		c.ops = append(c.ops, store.Op{Key: key})
	} else {
		c.ops = append(c.ops, store.Op{Key: key, Value: p.sealRecord(key, version, plain)})
	}
	for _, u := range c.users {
		c.ops = append(c.ops, store.Op{Key: p.indexKey(u, id)})
	}
	if !indexed && user != "" {
		c.ops = append(c.ops, store.Op{Key: p.indexKey(user, id), Value: []byte{}})
	}
	for _, op := range c.ops {
		b.size += op.Size()
	}
	b.items = append(b.items, c)
}

// writeBatch makes the log durable up to the captured states, then writes them. The log's clock, too, is not behind a
// record's last-seen, which may be newer than any log entry: after a crash the engine's time goes on from it.
func (p *persister) writeBatch(b *batch) bool {
	hi, ok := p.requestCut(cutRequest{clock: b.seen})
	if !ok {
		return false
	}
	var ops []store.Op
	size, from := 0, 0
	for i := range b.items {
		c := &b.items[i]
		if c.blind && !p.resolveBlind(c) {
			return false
		}
		n := 0
		for _, op := range c.ops {
			n += op.Size()
		}
		if len(ops) > 0 && (size+n > recordTxnBytes || len(ops)+len(c.ops) > p.limit.Ops) {
			if !p.commit(ops) {
				return false
			}
			p.written(b.items[from:i])
			ops, size, from = ops[:0], 0, i
		}
		ops = append(ops, c.ops...)
		size += n
	}
	if len(ops) > 0 && !p.commit(ops) {
		return false
	}
	p.written(b.items[from:])
	*b = batch{group: hi.number}
	p.relieve()
	return true
}

// resolveBlind finds, for a session that was ended unseen, which index entry its
// record has, and settles the counts.
func (p *persister) resolveBlind(c *captured) bool {
	key := recordKey(c.s.id())
	value, ok, err := p.store.Get(key, nil)
	if err != nil {
		p.fail(err)
		return false
	}
	var r *record
	var seen int64
	if ok {
		r, seen, _ = p.openRecord(key, value)
	}
	c.sh.mu.Lock()
	switch {
	case r != nil:
		p.e.settleBlindLocked(c.s, r, seen)
	case ok && c.s.word.Load()&bitBlind != 0:
		// Damaged: its user, and so its index entry, cannot be known. ByUser finds
		// no record behind the entry.
		p.e.live.sessions.Add(-1)
	}
	c.s.unmark(bitBlind)
	c.sh.mu.Unlock()
	if user, _ := r.user(); user != "" && user != c.user {
		c.ops = append(c.ops, store.Op{Key: p.indexKey(user, c.s.id())})
	}
	return true
}

// written settles sessions whose captured state is on disk.
func (p *persister) written(items []captured) {
	for i := range items {
		c := &items[i]
		s, sh := c.s, c.sh
		sh.mu.Lock()
		w := s.word.Load()
		s.unmark(bitPending)
		if x := s.extra.Load(); x != nil {
			x.users = slices.DeleteFunc(x.users, func(u string) bool { return slices.Contains(c.users, u) })
		}
		clean := w&bitChanged == 0 && statusOf(w) != dead // moved: what took its place is in the next list
		if clean {
			size := int64(sessionOverhead)
			if r := s.priv.Load(); r != nil {
				size += int64(r.size())
			}
			sh.dirty -= size
			sh.reportLocked(p.e)
			if statusOf(w) == live {
				s.mark(bitIndexed)
			} else if statusOf(w) == ended {
				s.unmark(bitBlind)
				s.setStatus(absent)
			}
		}
		sh.mu.Unlock()
		if s.status() == absent {
			p.e.drop(sh, s)
		}
	}
}

// raise sets the low-water mark: everything up to the group is in the records.
func (p *persister) raise(number uint64, live groupCounts) bool {
	if !p.commit([]store.Op{{Key: lowKey, Value: p.encodeLow(number, live)}}) {
		return false
	}
	p.low = number
	return true
}

func (p *persister) encodeLow(number uint64, live groupCounts) []byte {
	var v []byte
	for _, n := range []uint64{number, uint64(live.clock), uint64(live.sessions), uint64(live.anonymous)} {
		v = binary.LittleEndian.AppendUint64(v, n)
	}
	return p.seal.Seal(nil, v, lowKey)
}

// collect deletes the groups up to the mark.
func (p *persister) collect(upTo uint64) bool {
	return p.write(func() error {
		n, bytes, err := p.store.Trim(chunkKey(p.epoch, upTo+1, 0))
		p.logBytes.Add(-(bytes - int64(n)*p.chunkOverhead()))
		p.relieve()
		return err
	})
}

// chunkOverhead is by how many bytes a chunk on disk is longer than its deltas.
func (p *persister) chunkOverhead() int64 { return int64(chunkHeader + p.seal.Overhead()) }
