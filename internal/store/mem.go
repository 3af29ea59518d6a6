package store

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// A Mem is a disk in memory, for tests: it can crash, fail, say that it failed
// when it did not, be full, and stall. What is on it outlives the stores
// opened on it, as a directory does.
//
// A batch is pending from when its Commit begins until it returns nil. A crash
// keeps any prefix of what is pending, which is what a real disk may do.
type Mem struct {
	mu      sync.Mutex
	records memTree
	log     memTree
	pending []*memBatch
	open    *memStore
	mark    uint64
	marked  bool
	limits  Limits
	fault   func(ops []Op) Fault
	resume  chan struct{} // closed by Resume
	commits int
}

// A Fault is what happens to a batch.
type Fault int

const (
	FaultNone    Fault = iota
	FaultFull          // refused with ErrFull, nothing is written
	FaultFail          // an error; a crash later may find it applied or not
	FaultApplied       // applied, and an error
	FaultStall         // nothing until Resume, or until a crash
)

// ErrInjected is the error of FaultFail and FaultApplied.
var ErrInjected = errors.New("injected fault")

// errCrashed is the answer of a store whose disk has crashed.
var errCrashed = errors.New("the disk is gone")

type memBatch struct {
	tree *memTree
	ops  []Op
}

// A memTree is keys and their values.
type memTree struct {
	data map[string][]byte
	keys []string // of data, sorted
}

// NewMem returns an empty disk with Badger's limits.
func NewMem() *Mem {
	return &Mem{
		records: memTree{data: make(map[string][]byte)},
		log:     memTree{data: make(map[string][]byte)},
		limits:  Limits{Bytes: 2 << 20, Ops: 20_000, Value: 1<<20 - 4096},
		resume:  make(chan struct{}),
	}
}

// SetFault makes fn decide on each batch from now on; nil: no faults. fn is called
// under the disk's mutex.
func (m *Mem) SetFault(fn func(ops []Op) Fault) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fn
}

// Resume lets stalled batches go on.
func (m *Mem) Resume() {
	m.mu.Lock()
	defer m.mu.Unlock()
	close(m.resume)
	m.resume = make(chan struct{})
}

// Pending returns how many batches a crash may or may not keep.
func (m *Mem) Pending() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.pending)
}

// Commits returns how many batches were begun.
func (m *Mem) Commits() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.commits
}

// Crash ends the store that is open, keeping the first keep of the pending
// batches. Its calls fail from then on.
func (m *Mem) Crash(keep int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range m.pending[:min(keep, len(m.pending))] {
		b.apply()
	}
	m.pending = nil
	m.fault = nil
	if m.open != nil {
		close(m.open.crashed)
		m.open = nil
	}
}

// Open opens the disk. It returns ErrLocked while it is open already.
func (m *Mem) Open() (Store, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.open != nil {
		return nil, ErrLocked
	}
	m.open = &memStore{m: m, mark: m.mark, marked: m.marked, crashed: make(chan struct{})}
	return m.open, nil
}

func (b *memBatch) apply() {
	t := b.tree
	for _, op := range b.ops {
		k := string(op.Key)
		at, found := slices.BinarySearch(t.keys, k)
		switch {
		case op.Value == nil && found:
			delete(t.data, k)
			t.keys = slices.Delete(t.keys, at, at+1)
		case op.Value != nil:
			if !found {
				t.keys = slices.Insert(t.keys, at, k)
			}
			t.data[k] = op.Value
		}
	}
}

// scan is Store.Scan.
func (t *memTree) scan(prefix, after []byte, keysOnly bool, fn func(k, v []byte) bool) {
	from := string(prefix)
	if string(after) > from {
		from = string(after)
	}
	at, found := slices.BinarySearch(t.keys, from)
	if found && after != nil && from == string(after) {
		at++
	}
	for _, k := range t.keys[at:] {
		if !strings.HasPrefix(k, string(prefix)) {
			return
		}
		var v []byte
		if !keysOnly {
			v = bytes.Clone(t.data[k])
		}
		if !fn([]byte(k), v) {
			return
		}
	}
}

// A memStore is one opening of a Mem.
type memStore struct {
	m       *Mem
	mark    uint64
	marked  bool
	crashed chan struct{}
	closed  bool // guarded by m.mu
}

// usable is called under the mutex.
func (s *memStore) usable() error {
	if s.closed {
		return ErrClosed
	}
	select {
	case <-s.crashed:
		return errCrashed
	default:
		return nil
	}
}

func (s *memStore) Limits() Limits { return s.m.limits }

func (s *memStore) Commit(ops []Op) error { return s.batch(&s.m.records, ops) }

func (s *memStore) Append(entries []Op) error { return s.batch(&s.m.log, entries) }

func (s *memStore) batch(tree *memTree, ops []Op) error {
	if err := s.m.limits.check(ops); err != nil {
		return err
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	return s.write(tree, ops)
}

// write is called under the mutex, and gives it up while it is stalled.
func (s *memStore) write(tree *memTree, ops []Op) error {
	m := s.m
	if err := s.usable(); err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	b := &memBatch{tree: tree}
	for _, op := range ops {
		own := Op{Key: bytes.Clone(op.Key)}
		if op.Value != nil {
			own.Value = append([]byte{}, op.Value...)
		}
		b.ops = append(b.ops, own)
	}
	m.commits++
	fault := FaultNone
	if m.fault != nil {
		fault = m.fault(b.ops)
	}
	switch fault {
	case FaultFull:
		return fmt.Errorf("%w: injected", ErrFull)
	case FaultFail:
		m.pending = append(m.pending, b)
		return ErrInjected
	case FaultApplied:
		b.apply()
		return ErrInjected
	case FaultStall:
		m.pending = append(m.pending, b)
		resume := m.resume
		m.mu.Unlock()
		select {
		case <-resume:
		case <-s.crashed:
		}
		m.mu.Lock()
		if err := s.usable(); err != nil {
			return err
		}
		m.pending = slices.DeleteFunc(m.pending, func(p *memBatch) bool { return p == b })
	}
	b.apply()
	return nil
}

func (s *memStore) Replay(after []byte, fn func(k, v []byte) bool) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.m.log.scan(nil, after, false, fn)
	return nil
}

// Trim is a batch, too, so that faults and crashes meet it.
func (s *memStore) Trim(before []byte) (n int, bytes int64, err error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	var ops []Op
	for _, k := range s.m.log.keys {
		if k >= string(before) {
			break
		}
		ops = append(ops, Op{Key: []byte(k)})
		bytes += int64(len(s.m.log.data[k]))
	}
	if err := s.write(&s.m.log, ops); err != nil {
		return 0, 0, err
	}
	return len(ops), bytes, nil
}

func (s *memStore) Get(key, dst []byte) ([]byte, bool, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.usable(); err != nil {
		return dst, false, err
	}
	v, ok := s.m.records.data[string(key)]
	return append(dst, v...), ok, nil
}

func (s *memStore) Scan(prefix, after []byte, keysOnly bool, fn func(k, v []byte) bool) error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	m.records.scan(prefix, after, keysOnly, fn)
	return nil
}

func (s *memStore) Mark() (uint64, bool) { return s.mark, s.marked }

func (s *memStore) SetMark(n uint64) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.m.mark, s.m.marked = n, true
	return nil
}

func (s *memStore) Close() error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	s.closed = true
	s.m.open = nil
	return nil
}
