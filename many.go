package sessile

import (
	"context"
	"fmt"
	"slices"
)

// A many is a transaction over several sessions: one state for each distinct
// id, in the order in which locks are taken (by id), so that two of
// them never wait for each other in a circle.
type many struct {
	e      *Engine
	ids    []string // distinct, sorted
	states []*txnState
}

// distinct returns the ids sorted and without duplicates, or an error for one out of range.
func distinct(ids []string) ([]string, error) {
	if len(ids) > MaxIDs {
		return nil, fmt.Errorf("%w: %d ids", ErrTooLarge, len(ids))
	}
	for _, id := range ids {
		if err := checkID(id); err != nil {
			return nil, err
		}
	}
	sorted := slices.Clone(ids)
	slices.Sort(sorted)
	return slices.Compact(sorted), nil
}

// txns returns the handles in the order of the caller's ids.
func (m *many) txns(ids []string) []Txn {
	txs := make([]Txn, len(ids))
	for i, id := range ids {
		j, _ := slices.BinarySearch(m.ids, id)
		st := m.states[j]
		txs[i] = Txn{st, st.gen.Own()}
	}
	return txs
}

// call runs fn.
func (m *many) call(ids []string, fn func([]Txn) error) error {
	if m.e.gate.Load()&gateClosing != 0 {
		return ErrClosed
	}
	if fn == nil {
		return nil
	}
	return fn(m.txns(ids))
}

// end frees the states and releases the locks that are still held, in reverse.
func (m *many) end() {
	for _, st := range slices.Backward(m.states) {
		if st.locked {
			m.e.unlock(st.sh, st.s.Own())
		}
		st.end()
	}
	if m.e.gate.Load()&gateClosing != 0 {
		m.e.shutdown.poke()
	}
}

// UpdateMany is Update over several sessions at once: txs[i] belongs to
// ids[i], and what all of them staged is committed together or not at all, to other
// calls, to ViewMany and after a crash. Ids may come in any order; duplicates share one
// transaction. If one session does not exist nothing runs, and the ErrNotFound names it. Durable on
// one of txs holds for all. More than MaxIDs ids are ErrTooLarge. Without ids fn runs with none.
func (e *Engine) UpdateMany(ctx context.Context, ids []string, fn func([]Txn) error) error {
	return e.updateMany(ctx, ids, modeUpdate, fn)
}

// UpsertMany is UpdateMany that creates the sessions that do not exist.
func (e *Engine) UpsertMany(ctx context.Context, ids []string, fn func([]Txn) error) error {
	return e.updateMany(ctx, ids, modeUpsert, fn)
}

func (e *Engine) updateMany(ctx context.Context, ids []string, mode txnMode, fn func([]Txn) error) error {
	ctx = background(ctx)
	sorted, err := distinct(ids)
	if err != nil {
		return err
	}
	if err := e.admit(ctx); err != nil {
		return err
	}
	out, err := e.runMany(ctx, sorted, ids, mode, fn)
	return e.settle(ctx, out, err)
}

func (e *Engine) runMany(ctx context.Context, sorted, ids []string, mode txnMode, fn func([]Txn) error) (out outcome, err error) {
	m := &many{e: e, ids: sorted}
	// All are in memory, and pinned there, before the first is locked: no lock is
	// held while a disk is read.
	pins, err := e.pinAll(ctx, sorted)
	if err != nil {
		return outcome{}, err
	}
	defer m.end()
	defer e.unpinAll(pins)
	for i, id := range sorted {
		s, sh, base, err := e.lockPinned(ctx, &pins[i], id, mode)
		if err != nil {
			return outcome{}, err
		}
		st := e.updates.take()
		st.hold(s, sh, base, ctx, mode, placeOf(fn), 0)
		m.states = append(m.states, st)
	}
	if err := m.begin(mode); err != nil {
		return outcome{}, err
	}
	if err := m.call(ids, fn); err != nil {
		return outcome{}, err
	}
	if err := ctx.Err(); err != nil {
		return outcome{}, err
	}
	return m.commit()
}

// A pin keeps one session's object in memory.
type pin struct {
	s  *session
	sh *shard
	h  uint64
}

// pinAll pins the sessions of the ids, loading those that are not in memory side by side.
func (e *Engine) pinAll(ctx context.Context, ids []string) (pins []pin, err error) {
	pins = make([]pin, len(ids))
	type loaded struct {
		i   int
		s   *session
		err error
	}
	var results chan loaded
	missing := 0
	for i, id := range ids {
		h := e.hash(id)
		sh := e.shardOf(h)
		pins[i] = pin{sh: sh, h: h}
		if s := sh.find(h, id); s != nil && s.status() != loading && s.pin() {
			pins[i].s = s
			continue
		}
		if results == nil {
			results = make(chan loaded, len(ids))
		}
		missing++
		go func() {
			s, err := e.fetch(ctx, sh, h, id, false)
			results <- loaded{i, s, err}
		}()
	}
	for range missing {
		r := <-results
		if r.err != nil {
			err = r.err
			continue
		}
		pins[r.i].s = r.s
	}
	if err != nil {
		e.unpinAll(pins)
		return nil, err
	}
	return pins, nil
}

func (e *Engine) unpinAll(pins []pin) {
	for _, p := range pins {
		if p.s != nil {
			e.unpin(p.sh, p.s)
		}
	}
}

// lockPinned locks a pinned session. A pinned object can still be dead only if
// it was so before the pin, which pin excludes.
func (e *Engine) lockPinned(ctx context.Context, p *pin, id string, mode txnMode) (*session, *shard, *record, error) {
	if err := p.s.lock(ctx, e, p.sh); err != nil {
		e.unlockFailed(p.sh, p.s, err)
		return nil, nil, nil, named(err, id)
	}
	base, again, err := e.enterSession(p.sh, p.s, id, mode)
	if again {
		err = named(ErrNotFound, id)
	}
	if err != nil {
		p.s.unlock(p.sh)
		return nil, nil, nil, err
	}
	return p.s, p.sh, base, nil
}

// begin makes what the callback sees a state of one instant: while the later
// sessions were waited for, an earlier one may have ended, which waits for no lock.
func (m *many) begin(mode txnMode) error {
	shards := lockShards(m.shards())
	defer unlockShards(shards)
	for _, st := range m.states {
		if s := st.s.Own(); st.base == nil || s.status() == live && !m.e.expireLocked(st.sh, s) {
			continue
		}
		if mode == modeUpdate {
			return named(ErrNotFound, st.s.Own().id())
		}
		st.base = nil // it is created anew
	}
	return nil
}

// shards returns the shard of each session.
func (m *many) shards() []*shard {
	shards := make([]*shard, len(m.states))
	for i, st := range m.states {
		shards[i] = st.sh
	}
	return shards
}

// commit makes all of it take effect at one instant.
func (m *many) commit() (out outcome, err error) {
	e := m.e
	durable := false
	var writers []*txnState // those with a new version
	for _, st := range m.states {
		durable = durable || st.durable
		if st.destroy {
			continue
		}
		if st.changes() {
			if err := st.prepare(e); err != nil {
				return outcome{}, err
			}
			writers = append(writers, st)
		}
	}
	shards := lockShards(m.shards())
	defer unlockShards(shards)
	return m.commitLocked(writers, durable)
}

func (m *many) commitLocked(writers []*txnState, durable bool) (out outcome, err error) {
	e := m.e
	now := e.clock.now()
	for _, st := range m.states {
		if err := st.sh.sealed; err != nil {
			return outcome{}, err
		}
		if st.base == nil && st.destroy {
			continue
		}
		if err := st.checkLocked(e, now); err != nil {
			return outcome{}, err
		}
	}
	for i, st := range writers {
		if err := st.admitLocked(e); err != nil {
			for _, st := range writers[:i] {
				st.readmitLocked(e)
			}
			return outcome{}, err
		}
	}
	// From here on nothing fails, and a cut waits: it has all of it or nothing.
	for _, st := range writers {
		version, seen := st.logLocked(e, now)
		st.applyLocked(e, version, seen)
	}
	for _, st := range m.states {
		switch {
		case len(writers) > 0 && writers[0] == st: // they are in the order of states
			writers = writers[1:]
		case st.destroy && st.base != nil:
			out.ends = append(out.ends, e.endLocked(st.sh, st.s.Own(), ReasonDeleted).ends...)
		case !st.noTouch && st.base != nil:
			e.touchLocked(st.sh, st.s.Own())
		}
	}
	if durable && e.persist != nil {
		out.wait = e.persist.open
	}
	return out, nil
}

// lockShards takes the latches of the shards, each once and in order, and
// returns those it took.
func lockShards(shards []*shard) []*shard {
	slices.SortFunc(shards, func(a, b *shard) int { return a.index - b.index })
	shards = slices.Compact(shards)
	for _, sh := range shards {
		sh.mu.Lock()
	}
	return shards
}

func unlockShards(shards []*shard) {
	for _, sh := range shards {
		sh.mu.Unlock()
	}
}

// ViewMany runs fn on snapshots of several sessions that are all of one moment:
// of an UpdateMany it sees all or nothing. Otherwise it is like View. A session that
// does not exist is ErrNotFound, which names it.
func (e *Engine) ViewMany(ctx context.Context, ids []string, fn func([]Txn) error) error {
	ctx = background(ctx)
	sorted, err := distinct(ids)
	if err != nil {
		return err
	}
	if err := e.enter(ctx); err != nil {
		return err
	}
	m := &many{e: e, ids: sorted}
	pins, err := e.pinAll(ctx, sorted)
	if err != nil {
		return err
	}
	defer m.end()
	defer e.unpinAll(pins)
	shards := make([]*shard, len(pins))
	for i, p := range pins {
		shards[i] = p.sh
		st := e.views.take()
		st.s.Store(p.s)
		st.ctx = ctx
		m.states = append(m.states, st)
	}
	shards = lockShards(shards)
	missing := ""
	for i, p := range pins {
		if p.s.status() != live || e.expireLocked(p.sh, p.s) {
			missing = sorted[i]
			break
		}
	}
	for i, p := range pins {
		if missing == "" {
			m.states[i].snapshotLocked(p.s)
		}
	}
	unlockShards(shards)
	if missing != "" {
		return named(ErrNotFound, missing)
	}
	for i, p := range pins {
		p.s.visit()
		m.states[i].seen = p.s.seen.Load()
	}
	return m.call(ids, fn)
}
