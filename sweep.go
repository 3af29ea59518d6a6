package sessile

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// sweepPeriod is how often the sweeper takes a step.
const sweepPeriod = 50 * time.Millisecond

// sweepIdleMax is the longest that the sweeper sleeps on an idle engine.
const sweepIdleMax = time.Hour

// sweepLoop ends what has expired, evicts what does not fit, and looks for slow
// callbacks, in small steps. Expiry does not depend on it: every call decides
// it anew; the sweeper makes the end known (OnEnd) and frees the memory. When
// nothing uses the engine it sleeps until the next session is due.
func (e *Engine) sweepLoop() {
	timer := time.NewTimer(sweepPeriod)
	defer timer.Stop()
	w := watchdog{looks: max(1, int(e.opt.SlowTxn/sweepPeriod))}
	d := diskSweeper{e: e}
	next := 0
	for {
		select {
		case <-e.stop:
			return
		case <-e.woken:
		case <-timer.C:
		}
		w.look(e)
		if e.clock.asleep() {
			d.step()
			timer.Reset(min(e.sweepIdle(), d.wait()))
			continue
		}
		// All shards are swept about once a second.
		for range max(1, len(e.shards)/20) {
			e.sweepShard(e.shards[next%len(e.shards)])
			next++
		}
		hot := 0
		for _, sh := range e.shards {
			sh.mu.Lock()
			hot += len(sh.ring) - sh.holes
			sh.mu.Unlock()
		}
		e.fitFront(hot)
		e.evictSome()
		d.step()
		timer.Reset(sweepPeriod)
	}
}

// sweepIdle sweeps everything and returns how long nothing will be due.
func (e *Engine) sweepIdle() time.Duration {
	due := int64(never)
	for _, sh := range e.shards {
		sh.mu.Lock()
		n := len(sh.ring)
		sh.mu.Unlock()
		for ; n > 0; n -= sweepStep {
			due = min(due, e.sweepShard(sh))
		}
	}
	if wait := due - e.clock.peek(); wait < sweepIdleMax.Milliseconds() {
		return max(time.Duration(wait)*time.Millisecond, tick)
	}
	return sweepIdleMax
}

// sweepStep is how many places of a shard's ring one step looks at.
const sweepStep = 1024

// sweepShard ends the expired among the next sessions of the shard's ring, and
// returns when the first of the others is due.
func (e *Engine) sweepShard(sh *shard) (due int64) {
	due = never
	now := e.clock.peek()
	var page [sweepStep]*session
	n := 0
	sh.mu.Lock()
	sh.compactLocked()
	for range min(sweepStep, len(sh.ring)) {
		if sh.sweep >= len(sh.ring) {
			sh.sweep = 0
		}
		if s := sh.slotLocked(sh.sweep); s != nil {
			page[n] = s
			n++
		}
		sh.sweep++
	}
	sh.mu.Unlock()
	if e.ends.backlog() > endsBacklog {
		return now // OnEnd does not keep up; expiry is decided by each call all the same
	}
	for _, s := range page[:n] {
		sh.mu.Lock()
		if s.status() == live {
			at := s.priv.Load().expires(s.seen.Load(), e.life)
			if at > now || !e.expireLocked(sh, s) {
				due = min(due, at)
			}
		}
		sh.mu.Unlock()
		if s.status() == absent {
			e.drop(sh, s)
		}
	}
	return due
}

// A diskSweeper walks over the records, a page at a time, and ends the expired
// sessions that nobody uses, so that they do not stay for ever.
type diskSweeper struct {
	e     *Engine
	after []byte
	next  int64 // engine time of the next page
}

const (
	diskSweepPage  = 256
	diskSweepEvery = 200 // ms between pages
)

// rest is the time between rounds, in ms: half of the shorter timeout, from a
// second to a minute.
func (d *diskSweeper) rest() int64 {
	rest := int64(60_000)
	for _, t := range []int64{d.e.life.idle, d.e.life.lifetime} {
		if t >= 0 {
			rest = min(rest, t/2)
		}
	}
	return max(rest, 1000)
}

// wait returns the time until the next page.
func (d *diskSweeper) wait() time.Duration {
	if d.e.persist == nil {
		return sweepIdleMax
	}
	return time.Duration(max(d.next-d.e.clock.peek(), tick.Milliseconds())) * time.Millisecond
}

func (d *diskSweeper) step() {
	e := d.e
	p := e.persist
	now := e.clock.peek()
	if p == nil || e.gate.Load() != 0 || now < d.next {
		return
	}
	d.next = now + diskSweepEvery
	var expired []string
	n := 0
	err := p.store.Scan([]byte{'r'}, d.after, false, func(k, v []byte) bool {
		n++
		d.after = append(d.after[:0], k...)
		if r, seen, err := p.openRecord(d.after, v); err == nil && r.expires(seen, e.life) <= now {
			expired = append(expired, string(k[1:]))
		}
		return n < diskSweepPage
	})
	if err != nil {
		p.fail(err)
		return
	}
	if n < diskSweepPage {
		d.after, d.next = nil, now+d.rest()
	}
	for _, id := range expired {
		// The newest state may be in memory and alive: the ordinary way decides.
		ctx := stopContext{context.Background(), e.stop}
		_ = e.onSession(ctx, id, func(sh *shard, s *session) error {
			if s.status() == live {
				e.expireLocked(sh, s)
			}
			return nil
		})
	}
}

// A watchdog logs callbacks that hold their session longer than SlowTxn, once
// each. It sees that a callback still runs by its state's generation.
type watchdog struct{ looks int }

func (w watchdog) look(e *Engine) {
	e.updates.each(func(st *txnState) {
		g := st.gen.Load()
		if g&1 == 0 || g != st.slowSeen {
			st.slowSeen, st.slowFor = g, 0
			return
		}
		if st.slowFor++; st.slowFor != w.looks {
			return
		}
		s, place := st.s.Load(), st.place.Load()
		if s == nil || st.gen.Load() != g {
			return // it has ended just now
		}
		id := s.id()
		e.count.slowTxns.Add(1)
		e.opt.Logger.Warn("sessile: slow transaction", "session", id, "callback", funcName(uintptr(place)), "longer than", e.opt.SlowTxn)
	})
}

// logBusy logs a wait for a session lock that ended in ErrBusy.
func (e *Engine) logBusy(s *session) {
	e.opt.Logger.Warn("sessile: session busy", "session", s.id(), "timeout", e.opt.LockTimeout)
}

// A notifier tells OnEnd of expiries, on a goroutine that exists while there is
// something to tell.
type notifier struct {
	mu sync.Mutex
	// Guarded by mu.
	queue   []ending
	running bool
}

// endsBacklog is how many untold ends make the sweeper pause.
const endsBacklog = 1 << 16

func (n *notifier) backlog() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.queue)
}

// push queues the news of an end. It is called under a shard's latch.
func (n *notifier) push(e *Engine, end ending) {
	if e.opt.OnEnd == nil {
		return
	}
	n.mu.Lock()
	n.queue = append(n.queue, end)
	start := !n.running
	n.running = true
	n.mu.Unlock()
	if start {
		go n.run(e)
	}
}

// run tells the queue. A callback that ends its goroutine does not end the telling.
func (n *notifier) run(e *Engine) {
	finished := false
	defer func() {
		if !finished {
			go n.run(e)
		}
	}()
	for {
		n.mu.Lock()
		if len(n.queue) == 0 {
			n.queue, n.running = nil, false
			n.mu.Unlock()
			finished = true
			if e.gate.Load()&gateClosing != 0 {
				e.shutdown.poke()
			}
			return
		}
		end := n.queue[0]
		n.queue = n.queue[1:]
		n.mu.Unlock()
		e.onEnd(end)
	}
}

// busy reports whether news are still to be told.
func (n *notifier) busy() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.running
}

// onEnd calls OnEnd, outside all locks.
func (e *Engine) onEnd(end ending) {
	if e.opt.OnEnd == nil {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			e.opt.Logger.Error("sessile: OnEnd panicked", "session", end.info.ID, "panic", fmt.Sprint(v))
		}
	}()
	e.opt.OnEnd(end.info, end.reason)
}
