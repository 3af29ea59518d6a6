package store

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// A crash keeps what was acknowledged and any prefix of what was not.
func TestMemCrash(t *testing.T) {
	for keep := range 4 {
		m := NewMem()
		s, err := m.Open()
		require.NoError(t, err)
		require.NoError(t, s.Commit([]Op{set("a", "1"), set("b", "1")}))
		m.SetFault(func([]Op) Fault { return FaultStall })
		errs := make(chan error)
		for i, ops := range [][]Op{{set("a", "2")}, {del("b")}, {set("c", "2")}} {
			go func() { errs <- s.Commit(ops) }()
			for m.Pending() <= i {
				runtime.Gosched()
			}
		}
		_, ok, err := s.Get([]byte("c"), nil)
		require.NoError(t, err)
		require.False(t, ok, "nothing of a stalled batch is seen")
		m.Crash(keep)
		for range 3 {
			require.Error(t, <-errs)
		}
		require.Error(t, s.Commit([]Op{set("d", "1")}))
		s, err = m.Open()
		require.NoError(t, err)
		want := [][]string{{"a=1", "b=1"}, {"a=2", "b=1"}, {"a=2"}, {"a=2", "c=2"}}[keep]
		require.Equal(t, want, scan(t, s, "", "", false))
	}
}

func TestMemFaults(t *testing.T) {
	m := NewMem()
	s, err := m.Open()
	require.NoError(t, err)
	next := FaultNone
	m.SetFault(func([]Op) Fault { return next })
	next = FaultFull
	require.ErrorIs(t, s.Commit([]Op{set("full", "")}), ErrFull)
	next = FaultApplied
	require.ErrorIs(t, s.Commit([]Op{set("applied", "")}), ErrInjected)
	next = FaultFail
	require.ErrorIs(t, s.Commit([]Op{set("fail", "")}), ErrInjected)
	require.Equal(t, []string{"applied="}, scan(t, s, "", "", false))
	next = FaultStall
	done := make(chan error)
	go func() { done <- s.Commit([]Op{set("stall", "")}) }()
	for m.Pending() < 2 {
		runtime.Gosched()
	}
	m.Resume()
	require.NoError(t, <-done)
	require.Equal(t, []string{"applied=", "stall="}, scan(t, s, "", "", false))
	m.Crash(1)
	s, err = m.Open()
	require.NoError(t, err)
	require.Equal(t, []string{"applied=", "fail=", "stall="}, scan(t, s, "", "", false))
}
