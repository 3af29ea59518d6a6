package sessile

import (
	"cmp"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/sessile-go/sessile/internal/store"
)

// A recordTxn is one transaction of records, as large as can be: no groups are held up behind it. It holds
// no key that another one in flight does, so they may overtake each other.
type recordTxn struct {
	ops   []store.Op
	size  int
	buf   []byte // keys and values of records
	plain []byte // scratch
	err   error  // nothing is committed after it
}

// The most that a state adds to a transaction: its record, and the index entries of the user that it had
// and of the one that it has.
const (
	stateOps   = 3
	stateBytes = 2048 // beyond the record's size
)

// add adds a state's record and index entries, which must not come apart.
func (t *recordTxn) add(p *persister, f *folded) {
	first := len(t.ops)
	user, _ := f.r.user()
	if f.disk != "" && f.disk != user {
		t.ops = append(t.ops, store.Op{Key: p.indexKey(f.disk, f.id)})
	}
	if user != "" {
		t.ops = append(t.ops, store.Op{Key: p.indexKey(user, f.id), Value: []byte{}})
	}
	if f.r != nil || f.wasThere {
		start := len(t.buf)
		t.buf = append(append(t.buf, 'r'), f.id...)
		end := len(t.buf)
		op := store.Op{Key: t.buf[start:end:end]}
		if f.r != nil {
			// As sealRecord does it: the version, and an envelope bound to key and version.
			t.plain = f.r.appendDisk(t.plain[:0], f.seen)
			t.buf = binary.LittleEndian.AppendUint64(t.buf, f.r.version)
			t.buf = p.seal.Seal(t.buf, t.plain, t.buf[start:])
			op.Value = t.buf[end:len(t.buf):len(t.buf)]
		}
		t.ops = append(t.ops, op)
	}
	for _, op := range t.ops[first:] {
		t.size += op.Size()
	}
}

// commit writes the transaction and gives it back empty.
func (t *recordTxn) commit(st store.Store, idle chan<- *recordTxn) {
	if t.err == nil {
		t.err = st.Commit(t.ops)
	}
	t.ops, t.buf, t.size = t.ops[:0], t.buf[:0], 0
	idle <- t
}

// write writes states to their records. While one transaction is written the next is made.
func (r *recovery) write(states []*folded) error {
	idle := make(chan *recordTxn, 3) // those that are not being written
	for range cap(idle) {
		idle <- new(recordTxn)
	}
	t := <-idle
	// Badger finds the place of a key faster near the last one's.
	slices.SortFunc(states, func(a, b *folded) int { return strings.Compare(a.id, b.id) })
	for _, f := range states {
		if t.err == nil {
			t.err = r.know(f)
		}
		if t.err != nil {
			break
		}
		if len(t.ops) > 0 && (t.size+f.r.size()+stateBytes > r.p.limit.Bytes || len(t.ops)+stateOps > r.p.limit.Ops) {
			go t.commit(r.p.store, idle)
			if t = <-idle; t.err != nil {
				break
			}
		}
		t.add(r.p, f)
		user, _ := f.r.user()
		r.indexed = r.indexed || user != ""
	}
	go t.commit(r.p.store, idle)
	var err error
	for range cap(idle) {
		err = cmp.Or(err, (<-idle).err)
	}
	return err
}

// know finds out what on disk a created session replaces. When there are no index entries, none is to be
// deleted, and the record is not read.
func (r *recovery) know(f *folded) error {
	if !f.unread {
		return nil
	}
	f.wasThere, f.unread = true, false
	if !r.indexed {
		return nil
	}
	rec, _, err := r.read(f.id)
	f.disk, _ = rec.user()
	f.wasThere = rec != nil
	return err
}
