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
	data    map[string][]byte
	keys    []string // of data, sorted
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

type memBatch struct{ ops []Op }

// NewMem returns an empty disk with Badger's limits.
func NewMem() *Mem {
	return &Mem{
		data:   make(map[string][]byte),
		limits: Limits{Bytes: 2 << 20, Ops: 20_000, Value: 1<<20 - 4096},
		resume: make(chan struct{}),
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
		m.apply(b.ops)
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

func (m *Mem) apply(ops []Op) {
	for _, op := range ops {
		k := string(op.Key)
		at, found := slices.BinarySearch(m.keys, k)
		switch {
		case op.Value == nil && found:
			delete(m.data, k)
			m.keys = slices.Delete(m.keys, at, at+1)
		case op.Value != nil:
			if !found {
				m.keys = slices.Insert(m.keys, at, k)
			}
			m.data[k] = op.Value
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

func (s *memStore) Commit(ops []Op) error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	if len(ops) == 0 {
		return nil
	}
	b := &memBatch{}
	size := 0
	for _, op := range ops {
		size += op.Size()
		if len(op.Value) > m.limits.Value {
			return fmt.Errorf("%w: value of %d bytes", ErrTooLarge, len(op.Value))
		}
		own := Op{Key: bytes.Clone(op.Key)}
		if op.Value != nil {
			own.Value = append([]byte{}, op.Value...)
		}
		b.ops = append(b.ops, own)
	}
	if size > m.limits.Bytes || len(ops) > m.limits.Ops {
		return fmt.Errorf("%w: %d ops of %d bytes", ErrTooLarge, len(ops), size)
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
		m.apply(b.ops)
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
	m.apply(b.ops)
	return nil
}

func (s *memStore) Get(key, dst []byte) ([]byte, bool, error) {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if err := s.usable(); err != nil {
		return dst, false, err
	}
	v, ok := s.m.data[string(key)]
	return append(dst, v...), ok, nil
}

func (s *memStore) Scan(prefix, after []byte, keysOnly bool, fn func(k, v []byte) bool) error {
	m := s.m
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := s.usable(); err != nil {
		return err
	}
	from := string(prefix)
	if string(after) > from {
		from = string(after)
	}
	at, found := slices.BinarySearch(m.keys, from)
	if found && after != nil && from == string(after) {
		at++
	}
	for _, k := range m.keys[at:] {
		if !strings.HasPrefix(k, string(prefix)) {
			return nil
		}
		var v []byte
		if !keysOnly {
			v = bytes.Clone(m.data[k])
		}
		if !fn([]byte(k), v) {
			return nil
		}
	}
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
