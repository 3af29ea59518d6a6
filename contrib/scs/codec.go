package scsstore

import (
	"encoding/binary"
	"errors"
	"iter"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/contrib/latesave"
)

// A codec carries what a request loaded from Decode to Encode, and what it changed from Encode to Commit.
//
// scs keeps the map that Decode returns for as long as the request lives, and hands the same map to Encode. So the map
// itself is what the load is found by: a hidden key in it would show in Keys, vanish with Clear and be overwritten by
// MergeSession. What Encode returns names the load; the changes stay in it.
type codec struct{ s *Store }

// Codec returns the codec that goes with the store: a commit is told from it what the request changed. Values are
// encoded each for itself; types that are not basic must be registered with gob, as with scs's own codec.
func (s *Store) Codec() scs.Codec { return codec{s} }

// A load is what a request knows of its session, and wants to make of it.
type load struct {
	number uint64

	mu       sync.Mutex
	id       string // "" when it is not stored yet
	deadline time.Time
	known    *latesave.Snapshot
	next     *save // from Encode, for Commit
}

type save struct {
	deadline time.Time
	changes  *latesave.Changes
}

// loads finds the loads under way by their map and by their number. It forgets one when its map is garbage.
type loads struct {
	byMap latesave.WeakMap[byte, *load]

	mu       sync.Mutex
	last     uint64
	byNumber map[uint64]*load
}

func (l *loads) init() { l.byNumber = make(map[uint64]*load) }

func (l *loads) add(values map[string]any, ld *load) {
	key := latesave.MapKey(values)
	l.mu.Lock()
	l.last++
	ld.number = l.last
	l.byNumber[ld.number] = ld
	l.mu.Unlock()
	l.byMap.Store(key, ld)
	runtime.AddCleanup(key, l.drop, ld.number)
}

func (l *loads) drop(number uint64) {
	l.mu.Lock()
	delete(l.byNumber, number)
	l.mu.Unlock()
}

func (l *loads) numbered(number uint64) *load {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byNumber[number]
}

const (
	headLoaded = "scsL"
	headSave   = "scsS"
	headLen    = len(headSave) + 8
)

func (s *Store) head(kind string) []byte { return append([]byte(kind), s.mark[:]...) }

// body returns what follows the head.
func (s *Store) body(kind string, b []byte) ([]byte, error) {
	if len(b) < headLen || string(b[:headLen]) != string(s.head(kind)) {
		return nil, ErrCodec
	}
	return b[headLen:], nil
}

// encodeLoaded returns what Decode is to have: the id, the meta field and scs's fields.
func (s *Store) encodeLoaded(id string, m meta, tx sessile.Txn) []byte {
	b := appendBytes(s.head(headLoaded), id)
	b = m.append(b)
	for key, value := range tx.All() {
		if strings.HasPrefix(key, valuePrefix) {
			b = appendBytes(b, key)
			b = appendBytes(b, value)
		}
	}
	return b
}

func appendBytes[T string | []byte](b []byte, v T) []byte {
	return append(binary.AppendUvarint(b, uint64(len(v))), v...)
}

// cutBytes undoes appendBytes; nil, nil for damaged data.
func cutBytes(b []byte) (v, rest []byte) {
	n, size := binary.Uvarint(b)
	if size <= 0 || n > uint64(len(b)-size) {
		return nil, nil
	}
	return b[size : size+int(n) : size+int(n)], b[size+int(n):]
}

// Decode implements scs.Codec.
func (c codec) Decode(b []byte) (time.Time, map[string]any, error) {
	b, err := c.s.body(headLoaded, b)
	if err != nil {
		return time.Time{}, nil, err
	}
	id, b := cutBytes(b)
	m, b, ok := cutMeta(b)
	if !ok {
		return time.Time{}, nil, ErrCodec
	}
	ld := &load{id: string(id), deadline: m.deadline, known: &latesave.Snapshot{}}
	values := make(map[string]any)
	for len(b) > 0 {
		var key, raw []byte
		key, b = cutBytes(b)
		raw, b = cutBytes(b)
		if raw == nil {
			return time.Time{}, nil, ErrCodec
		}
		name := strings.TrimPrefix(string(key), valuePrefix)
		v, err := ld.known.Read(string(key), raw)
		if err != nil {
			if f := c.s.opt.OnDecodeError; f != nil {
				if err := f(ld.id, name, err); err != nil {
					return time.Time{}, nil, err
				}
			}
			continue
		}
		values[name] = v
	}
	c.s.loads.add(values, ld)
	return m.deadline, values, nil
}

// Encode implements scs.Codec.
func (c codec) Encode(deadline time.Time, values map[string]any) ([]byte, error) {
	if values == nil {
		return nil, errors.New("scsstore: no values")
	}
	ld := c.s.loads.byMap.Load(latesave.MapKey(values))
	if ld == nil {
		ld = &load{known: &latesave.Snapshot{}}
		c.s.loads.add(values, ld)
	}
	ld.mu.Lock()
	defer ld.mu.Unlock()
	changes, err := ld.known.Diff(prefixed(values))
	if err != nil {
		return nil, err
	}
	ld.next = &save{deadline, changes}
	return binary.LittleEndian.AppendUint64(c.s.head(headSave), ld.number), nil
}

func prefixed(values map[string]any) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for key, v := range values {
			if !yield(valuePrefix+key, v) {
				return
			}
		}
	}
}
