package main

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A fakePeer holds sessions in a map and changes them in a way of the test's.
type fakePeer struct {
	mu       sync.Mutex
	sessions map[string]*fakeSession
	change   func(*fakeSession)
}

type fakeSession struct {
	mu   sync.Mutex
	a, b atomic.Int64
}

func newFake(change func(*fakeSession)) *fakePeer {
	return &fakePeer{sessions: map[string]*fakeSession{}, change: change}
}

func (p *fakePeer) find(id string) *fakeSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sessions[id]
}

func (p *fakePeer) Fill(ids []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range ids {
		p.sessions[id] = new(fakeSession)
	}
	return nil
}

func (p *fakePeer) Read(id string) (peers.Pair, error) {
	s := p.find(id)
	if s == nil {
		return peers.Pair{}, assert.AnError
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return peers.Pair{A: s.a.Load(), B: s.b.Load()}, nil
}

func (p *fakePeer) Change(id string, _ bool) error {
	p.change(p.find(id))
	return nil
}

func (p *fakePeer) Create(id string) error { return p.Fill([]string{id}) }

func (p *fakePeer) Delete(id string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.sessions, id)
	return nil
}

func (p *fakePeer) Close() error { return nil }

// Ways to change a session.
func soundly(s *fakeSession) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.a.Add(1)
	s.b.Add(1)
}

func loadAndSave(s *fakeSession) {
	a, b := s.a.Load(), s.b.Load()
	runtime.Gosched() // the handler
	s.mu.Lock()
	defer s.mu.Unlock()
	s.a.Store(a + 1)
	s.b.Store(b + 1)
}

func inHalves(s *fakeSession) {
	s.a.Add(1)
	runtime.Gosched()
	s.b.Add(1)
}

func twice(s *fakeSession) {
	soundly(s)
	soundly(s)
}

// run lets callers loose on a peer until something must have been seen, and returns the totals.
func runFake(t *testing.T, p *fakePeer, w Workload, seen func(*row) bool) *Totals {
	t.Helper()
	w.Sessions, w.Draw, w.Callers = 1, "one", 4
	r, err := newRow(p, w)
	require.NoError(t, err)
	for deadline := time.Now().Add(20 * time.Second); ; {
		ops, took, err := r.round(5 * time.Millisecond)
		require.NoError(t, err)
		require.Positive(t, ops)
		require.GreaterOrEqual(t, took, 5*time.Millisecond)
		if seen(r) {
			break
		}
		require.True(t, time.Now().Before(deadline), "not seen")
	}
	totals, err := r.totals()
	require.NoError(t, err)
	require.True(t, totals.Counted)
	return totals
}

func after(changes int64) func(*row) bool {
	return func(r *row) bool {
		n := int64(0)
		for _, c := range r.callers {
			n += c.changes
		}
		return n > changes
	}
}

func TestSoundPeerLosesNothing(t *testing.T) {
	totals := runFake(t, newFake(soundly), Workload{Reads: 0.5, Op: change}, after(1000))
	assert.Zero(t, totals.Lost)
	assert.Zero(t, totals.Torn)
	assert.Positive(t, totals.Reads)
}

func TestLostUpdatesAreCounted(t *testing.T) {
	p := newFake(loadAndSave)
	totals := runFake(t, p, Workload{Op: change}, after(1000))
	pair, err := p.Read(idOf(0))
	require.NoError(t, err)
	assert.Positive(t, totals.Lost)
	assert.Equal(t, totals.Changes-pair.A, totals.Lost)
}

func TestTornReadsAreCounted(t *testing.T) {
	totals := runFake(t, newFake(inHalves), Workload{Reads: 0.5, Op: change}, func(r *row) bool {
		for _, c := range r.callers {
			if c.torn > 0 {
				return true
			}
		}
		return false
	})
	assert.Positive(t, totals.Torn)
	assert.Zero(t, totals.Lost)
}

// What is applied more often than acknowledged is wrong too.
func TestDoubleUpdatesAreCounted(t *testing.T) {
	totals := runFake(t, newFake(twice), Workload{Op: change}, after(10))
	assert.Equal(t, -totals.Changes, totals.Lost)
}

// Churn deletes what the peer does not expire, and only that.
func TestChurnExpires(t *testing.T) {
	p := newFake(soundly)
	totals := runFake(t, p, Workload{Op: churn, TTL: 10 * time.Millisecond}, func(r *row) bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		made := 0
		for _, c := range r.callers {
			made += c.made
		}
		return len(p.sessions) < made // some have gone
	})
	assert.Zero(t, totals.Lost)
	assert.Zero(t, totals.Torn)

	p.change = func(*fakeSession) {}
	totals = runFake(t, p, Workload{Op: churn, TTL: time.Hour}, after(100))
	assert.Equal(t, totals.Changes, totals.Lost, "a session's own change is not there")
}

func TestLoginsAreCounted(t *testing.T) {
	p := newFake(soundly)
	totals := runFake(t, p, Workload{Reads: 0.5, Op: login}, after(100))
	assert.Zero(t, totals.Lost)

	r, err := newRow(p, Workload{Sessions: 1, Draw: "one", Callers: 1, Op: login})
	require.NoError(t, err)
	require.NoError(t, r.callers[0].login())
	require.NoError(t, p.Delete(idOf(1<<48|1)))
	totals, err = r.totals()
	require.NoError(t, err)
	assert.EqualValues(t, 1, totals.Lost, "a session that is not there")
}
