package sessile_test

import (
	"errors"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"pgregory.net/rapid"
)

// The steps of the model that are about the disk, and about what comes back from it.

func (m *machine) evict(t *rapid.T) {
	if rapid.Bool().Draw(t, "checkpoint") {
		sessile.Checkpoint(m.e)
	}
	sessile.EvictAll(m.e)
}

func (m *machine) sleep(t *rapid.T) {
	time.Sleep(time.Duration(rapid.SampledFrom([]int{1, 10, 50, 300, 900, 2500}).Draw(t, "ms")) * time.Millisecond)
}

func (m *machine) reopen(t *rapid.T) {
	m.settle(t)
	if err := sessile.Check(m.e); err != nil {
		t.Fatalf("invariants: %v", err)
	}
	if err := m.e.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	m.durable()
	modelCounts["reopenings"]++
	if m.keys != nil && rapid.Bool().Draw(t, "rotate") {
		m.keys = [][]byte{m.keys[1], m.keys[0]}
	}
	m.moveClock(t)
	m.open(t)
	m.recovered(t)
}

// recovered finds the state that the engine has come back to.
func (m *machine) recovered(t *rapid.T) {
	if err := sessile.CheckDisk(m.e); err != nil {
		t.Fatalf("disk: %v", err)
	}
	var got modelState
	// Each may wait until it is sure, and then an earlier one is no longer.
	for started := time.Now().Add(-1); !started.Equal(time.Now()); {
		started = time.Now()
		for _, past := range m.history {
			for _, s := range past {
				if s != nil {
					m.dead(s, s.seen)
					m.dead(s, s.logged)
				}
			}
		}
	}
	for i := range got {
		got[i] = m.observe(t, i)
	}
	// Several states of the history may look the same, because what has expired is
	// not seen; but its end need not have been logged, and after the next crash, with
	// other options, it may be alive again. So all that fit are kept.
	var fitting []modelState
	found := false
	for _, before := range m.history {
		now := before
		equal := true
		for i, s := range now {
			if s != nil && (m.dead(s, s.seen) || got[i] == nil && m.dead(s, s.logged)) {
				now[i] = nil
			}
			equal = equal && same(now[i], got[i])
			if g := got[i]; equal && g != nil {
				equal = !g.seen.After(s.seen) && !g.seen.Before(s.logged.Add(-clockSlack))
			}
		}
		if !equal {
			continue
		}
		for i, g := range got {
			if g != nil {
				n := *now[i]
				n.seen, n.created, n.logged = g.seen.Add(time.Millisecond), g.created, g.seen.Add(time.Millisecond)
				now[i], before[i] = &n, &n
			}
		}
		m.now, found = now, true
		fitting = append(fitting, before)
	}
	if found {
		m.history = fitting
		m.note()
		return
	}
	for j, s := range m.history {
		for i := range s {
			t.Logf("history %d, slot %d: %+v", j, i, s[i])
		}
	}
	for i, s := range got {
		t.Logf("recovered, slot %d: %+v", i, s)
	}
	t.Fatal("what was recovered is no state of the history")
}

// crash ends the process, so to speak, with any prefix of the pending batches on the disk.
func (m *machine) crash(t *rapid.T) {
	modelCounts["crashes"]++
	m.settle(t)
	m.disk.Crash(rapid.IntRange(0, 3).Draw(t, "keep"))
	_ = m.e.Close()
	if rapid.IntRange(0, 4).Draw(t, "crash while recovering") == 0 {
		modelCounts["crashes while recovering"]++
		at := rapid.IntRange(1, 4).Draw(t, "batch")
		m.disk.SetFault(func([]store.Op) store.Fault {
			if at--; at < 0 {
				return store.FaultFail
			}
			return store.FaultNone
		})
		if st, err := m.disk.Open(); err != nil {
			t.Fatal(err)
		} else if e, err := sessile.OpenOn(m.opt, st); err == nil {
			m.disk.Crash(0)
			_ = e.Close()
		}
		m.disk.Crash(rapid.IntRange(0, 1).Draw(t, "keep"))
	}
	m.moveClock(t)
	m.open(t)
	m.recovered(t)
}

// moveClock lets time pass while the engine is closed, or moves the wall clock back.
func (m *machine) moveClock(t *rapid.T) {
	by := time.Duration(rapid.SampledFrom([]int{0, 0, 0, 0, 300, 2500, -300, -2500}).Draw(t, "clock")) * time.Millisecond
	if by == 0 {
		return
	}
	modelCounts["clock moves"]++
	if by > 0 {
		time.Sleep(by)
		return
	}
	st, err := m.disk.Open()
	if err != nil {
		t.Fatal(err)
	}
	err = sessile.AdvanceClock(sessile.Options{Dir: "unused", EncryptionKeys: m.keys}, st, -by)
	if err = errors.Join(err, st.Close()); err != nil {
		t.Fatal(err)
	}
}

// stall lets the disk take nothing for a while, or until a crash.
func (m *machine) stall(t *rapid.T) {
	modelCounts["stalls"]++
	m.disk.SetFault(func([]store.Op) store.Fault { return store.FaultStall })
	for range rapid.IntRange(0, 3).Draw(t, "steps") {
		m.stalledStep(t)
	}
	if rapid.Bool().Draw(t, "crash") {
		m.crash(t)
		return
	}
	m.disk.SetFault(nil)
	m.disk.Resume()
	synctest.Wait()
}

// stalledStep is an update that asks for no durability.
func (m *machine) stalledStep(t *rapid.T) {
	i := m.draw(t, "session")
	x := drawTxn(t)
	x.durable, x.end = false, ""
	m.settle(t)
	var next *modelSession
	changed := false
	err := m.e.Upsert(m.ctx, m.id(i), func(tx sessile.Txn) error {
		next, changed = x.apply(t, m, tx, m.now[i])
		return nil
	})
	if m.refused(t, err, x, map[int]*modelSession{i: next}, map[int]bool{i: changed}) {
		return
	}
	if err != nil {
		t.Fatalf("upsert on a stalled disk: %v", err)
	}
	m.commit(t, i, x, next, changed)
	m.note()
	if rapid.Bool().Draw(t, "sleep") {
		time.Sleep(200 * time.Millisecond)
		m.settle(t)
	}
	m.verify(t, i)
}

// fail makes the disk fail for good.
func (m *machine) fail(t *rapid.T) {
	m.settle(t)
	fault := rapid.SampledFrom([]store.Fault{store.FaultFail, store.FaultApplied}).Draw(t, "fault")
	if fault == store.FaultFail {
		modelCounts["failed writes"]++
	} else {
		modelCounts["failed but applied"]++
	}
	m.disk.SetFault(func([]store.Op) store.Fault { return fault })
	x := modelTxn{ops: []modelOp{{"set", "a", "failing"}}, durable: true}
	i := m.draw(t, "session")
	var next *modelSession
	changed := false
	err := m.e.Upsert(m.ctx, m.id(i), func(tx sessile.Txn) error {
		next, changed = x.apply(t, m, tx, m.now[i])
		return nil
	})
	switch {
	case errors.Is(err, sessile.ErrDurabilityUnknown) && errors.Is(err, sessile.ErrPersistence):
		m.commit(t, i, x, next, changed)
		m.note()
		m.verify(t, i)
	case errors.Is(err, sessile.ErrPersistence): // it had failed before the commit
	case next != nil && m.refused(t, err, x, map[int]*modelSession{i: next}, map[int]bool{i: changed}):
		m.crash(t) // before anything has failed
		return
	default:
		t.Fatalf("durable update on a failed disk: %v", err)
	}
	if err := m.e.Update(m.ctx, m.id(i), func(tx sessile.Txn) error { return tx.Set("a", nil) }); !errors.Is(err, sessile.ErrPersistence) {
		if m.now[i] != nil || !errors.Is(err, sessile.ErrNotFound) {
			t.Fatalf("update on a failed engine: %v", err)
		}
	}
	if err := m.e.Flush(m.ctx); !errors.Is(err, sessile.ErrPersistence) {
		t.Fatalf("flush on a failed engine: %v", err)
	}
	m.crash(t)
}

// full makes the disk full for a while.
func (m *machine) full(t *rapid.T) {
	m.settle(t)
	modelCounts["full disks"]++
	m.disk.SetFault(func([]store.Op) store.Fault { return store.FaultFull })
	i := m.draw(t, "session")
	err := m.e.Delete(m.ctx, m.id(i))
	if err != nil && !errors.Is(err, sessile.ErrDiskFull) {
		t.Fatalf("delete on a full disk: %v", err)
	}
	m.now[i] = nil
	m.note()
	m.verify(t, i)
	if rapid.Bool().Draw(t, "crash") {
		m.crash(t)
		return
	}
	m.disk.SetFault(nil)
	time.Sleep(3 * time.Second)
	m.flush(t)
}
