package sessile

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
)

// An Engine holds sessions. Its methods are safe for concurrent use. Make one
// with [Open], share it, and close it with [Engine.Shutdown] or [Engine.Close].
//
// The files of this package follow a call's way: engine.go has the public
// verbs, shard.go the map from id to session, session.go one session and its
// locks, txn.go what a callback sees, commit.go how it takes effect,
// persist.go how it reaches the disk.
type Engine struct {
	// Read by every call and seldom written.
	gate       atomic.Uint32 // why writes must not just go on; 0 nearly always
	opt        Options
	life       lifespan
	front      atomic.Pointer[front]
	shards     []*shard
	shardShift uint // a hash's shard is its upper bits
	seed       hashSeed
	reportStep int64 // see reportLocked
	spin       bool  // other processors can run the holder of a lock
	clock      *clock
	persist    *persister // nil when InMemory

	_ [64]byte

	updates txnStates
	views   txnStates

	memory atomic.Int64 // bytes of hot sessions
	live   counts
	count  counters
	hand   atomic.Uint32 // the shard whose hand moves next
	loads  chan struct{} // bounds the reads of cold sessions
	tokens endedTokens
	ends   notifier
	room   room

	woken    chan struct{} // wakes the sweeper after an idle time
	stop     chan struct{} // closed when the background goroutines are to end
	workers  sync.WaitGroup
	shutdown shutdown
}

// The gate's bits.
const (
	gateClosing uint32 = 1 << iota
	gateFailed         // the store has failed
	gateFull           // log or changed sessions are at their bound
	gateDisk           // the disk is full
)

func (e *Engine) hash(id string) uint64 { return hashID(e.seed, id) }

func (e *Engine) shardOf(h uint64) *shard { return e.shards[h>>(e.shardShift&63)] }

// checkID refuses ids that are out of range.
func checkID(id string) error {
	if len(id) == 0 || len(id) > MaxIDLen {
		return fmt.Errorf("%w: %d bytes", ErrInvalidID, len(id))
	}
	return nil
}

// enter is the gate of every verb but View: a usable context, outside of any
// callback, on an open engine.
func (e *Engine) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if e.reentrant(ctx) {
		return ErrReentrant
	}
	if e.gate.Load()&gateClosing != 0 {
		return ErrClosed
	}
	return nil
}

// admit is the gate of verbs that change something: it also waits for room in
// the log, before any lock.
func (e *Engine) admit(ctx context.Context) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	if e.gate.Load() == 0 {
		return nil
	}
	return e.admitSlow(ctx)
}

func named(err error, id string) error { return fmt.Errorf("%w: %q", err, id) }

// background stands in for a nil context.
func background(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// Update runs fn on the session and commits what it staged, as one step: no
// other Update of the session runs meanwhile, and nobody sees a part of it. The
// change is in memory when Update returns nil, and on disk within
// [Options.FlushInterval], or, when fn called [Txn.Durable], already.
//
// fn runs at most once. If it returns an error, which Update then returns as it
// is, panics, or ends its goroutine, nothing is changed. It should be short: other
// Updates of the same session wait for it. Inside it, only View may be called
// on the engine; another verb with the [Txn.Context] is ErrReentrant, and
// one with some other context waits for itself until LockTimeout.
//
// Update touches the session, also when fn stages nothing (then there is no new
// version), unless fn calls [Txn.NoTouch]. It never creates a session: without one,
// or when it ends before the commit, it returns ErrNotFound. Other errors: the
// context's, ErrBusy, ErrTooLarge, ErrTooMany, ErrInvalidID, ErrDiskFull, ErrPersistence,
// ErrClosed, and ErrDurabilityUnknown, with which alone the change stands. A nil fn
// changes nothing.
func (e *Engine) Update(ctx context.Context, id string, fn func(Txn) error) error {
	return e.update(ctx, id, modeUpdate, fn)
}

// Upsert is Update for a session that is created, empty, if there is none. It
// is created also when fn stages nothing.
func (e *Engine) Upsert(ctx context.Context, id string, fn func(Txn) error) error {
	return e.update(ctx, id, modeUpsert, fn)
}

// CreateID creates a session of the given id, which is a name and not a
// secret, and runs fn on it as Update does. It returns ErrExists if there is
// one already. fn may be nil.
func (e *Engine) CreateID(ctx context.Context, id string, fn func(Txn) error) error {
	return e.update(ctx, id, modeCreate, fn)
}

// Create creates a session with a new id of 128 random bits in base64url and runs fn on it as Update does. fn may
// be nil. The id is returned also with ErrDurabilityUnknown; with any other error
// there is no session.
//
// The id is a name, not a secret: to give a browser the right to the session, use [Txn.NewToken].
func (e *Engine) Create(ctx context.Context, fn func(Txn) error) (id string, err error) {
	id = newID()
	err = e.update(ctx, id, modeCreate, fn)
	if err != nil && !errors.Is(err, ErrDurabilityUnknown) {
		return "", err
	}
	return id, err
}

func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

func (e *Engine) update(ctx context.Context, id string, mode txnMode, fn func(Txn) error) error {
	ctx = background(ctx)
	if uint(len(id)-1) >= MaxIDLen {
		return checkID(id)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if ctx.Value(txnContextKey{}) != nil || e.gate.Load() != 0 {
		if err := e.admit(ctx); err != nil {
			return err
		}
	}
	h := e.hash(id)
	sh := e.shardOf(h)
	s := e.find(h, id)
	var base *record
	now := e.clock.now()
	if s != nil && mode != modeCreate && s.tryLock() { // nearly always
		if base = e.aliveIn(s, now); base == nil {
			s.unlock(sh)
		}
	}
	if base == nil {
		var err error
		now = 0
		if s, base, err = e.lockFor(ctx, sh, h, id, mode); err != nil {
			return err
		}
	}
	s.visit()
	st := e.updates.take()
	st.hold(s, sh, base, ctx, mode, placeOf(fn), now)
	out, err := e.run(st, fn)
	if out.wait == nil && out.ends == nil {
		return err
	}
	return e.settle(ctx, out, err)
}

// aliveIn returns the state of a session that is locked, if it is seen to be alive at a glance.
func (e *Engine) aliveIn(s *session, now int64) *record {
	r := s.priv.Load()
	if s.status() != live || r == nil {
		return nil
	}
	if seen := s.seen.Load(); !r.lives(seen, now, &e.life) && r.expired(seen, now, &e.life) {
		return nil
	}
	return r
}

// run calls fn and commits. Whatever fn does, the state is freed and the session unlocked.
func (e *Engine) run(st *txnState, fn func(Txn) error) (out outcome, err error) {
	defer func() { // in one call
		if st.locked {
			e.unlock(st.sh, st.s.Own())
		}
		st.end()
		if e.gate.Load()&gateClosing != 0 {
			e.shutdown.poke()
		}
	}()
	gen := st.gen.Own()
	// Looked at after the state shows that this transaction runs: either this
	// sees that the engine closes, or Shutdown sees the transaction and waits.
	if e.gate.Load()&gateClosing != 0 {
		return outcome{}, ErrClosed
	}
	if fn != nil {
		if err := fn(Txn{st, gen}); err != nil {
			return outcome{}, err
		}
	}
	if err := st.ctx.Err(); err != nil {
		return outcome{}, err
	}
	return e.commit(st)
}

// unlock releases the session lock and drops an object that nobody needs.
func (e *Engine) unlock(sh *shard, s *session) {
	s.unlock(sh)
	if s.status() == absent {
		e.drop(sh, s)
	}
}

// drop removes an absent object that nobody holds.
func (e *Engine) drop(sh *shard, s *session) {
	sh.mu.Lock()
	w := s.word.Load()
	dropped := statusOf(w) == absent && w>>pinShift == 0 && w&(bitChanged|bitPending) == 0 && s.killLocked(w)
	sh.mu.Unlock()
	if dropped {
		e.forget(sh, e.hash(s.id()), s)
		if w&bitRinged != 0 {
			e.memory.Add(-s.footprint())
		}
	}
}

func (e *Engine) unpin(sh *shard, s *session) {
	s.unpin()
	if s.status() == absent {
		e.drop(sh, s)
	}
}

// outcome is what is left to do after a commit, without any lock.
type outcome struct {
	wait *group   // to be waited for; nil: not durable, or in memory
	ends []ending // to be told to OnEnd
}

// An ending is the news of one ended session.
type ending struct {
	info   Info
	reason Reason
}

// settle tells of the ended, and waits for durability.
func (e *Engine) settle(ctx context.Context, out outcome, err error) error {
	for _, end := range out.ends {
		e.onEnd(end)
	}
	if err == nil && out.wait != nil {
		err = e.persist.await(ctx, out.wait)
	}
	return err
}

// lockFor locks the session of the id, loading it if need be, and returns its
// state, nil for a session to be created.
func (e *Engine) lockFor(ctx context.Context, sh *shard, h uint64, id string, mode txnMode) (s *session, base *record, err error) {
	for {
		s = e.find(h, id)
		pinned := false
		if s == nil || s.status() == loading {
			if s, err = e.fetch(ctx, sh, h, id, mode == modeCreate); err != nil {
				return nil, nil, err
			}
			pinned = true
		}
		err = s.lock(ctx, e, sh)
		if pinned {
			s.unpin() // an absent object is dropped by unlock, below or later
		}
		if err != nil {
			e.unlockFailed(sh, s, err)
			return nil, nil, named(err, id)
		}
		base, again, err := e.enterSession(sh, s, id, mode)
		if again {
			s.unlock(sh)
			continue
		}
		if err != nil {
			e.unlock(sh, s)
			return nil, nil, err
		}
		return s, base, nil
	}
}

// unlockFailed cleans up after a lock that was not had.
func (e *Engine) unlockFailed(sh *shard, s *session, err error) {
	if s.status() == absent {
		e.drop(sh, s)
	}
	if errors.Is(err, ErrBusy) {
		e.logBusy(s)
	}
}

// enterSession decides, under the session lock, what the transaction sees:
// whether the session is alive is decided here, and once more at the commit.
func (e *Engine) enterSession(sh *shard, s *session, id string, mode txnMode) (base *record, again bool, err error) {
	switch s.status() {
	case dead, loading:
		return nil, true, nil
	case live:
		if base = e.aliveIn(s, e.clock.now()); base == nil {
			// Seldom, so exactly: under the latch.
			sh.mu.Lock()
			if s.status() == live && !e.expireLocked(sh, s) {
				base = s.priv.Load()
			}
			sh.mu.Unlock()
		}
	}
	switch {
	case base != nil && mode == modeCreate:
		return nil, false, named(ErrExists, id)
	case base == nil && mode == modeUpdate:
		return nil, false, named(ErrNotFound, id)
	}
	return base, false, nil
}

// View runs fn on a snapshot of the session: a committed state that does not
// change while fn runs. It waits for no callback, locks nothing, and does not
// touch the session. Called inside an Update of the session it sees the state
// before that Update. It returns fn's error as it is, ErrNotFound, ErrInvalidID,
// ErrClosed, the context's error, or, for a session that must be read from
// disk, ErrCorrupt or ErrPersistence.
func (e *Engine) View(ctx context.Context, id string, fn func(Txn) error) error {
	ctx = background(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if fn == nil {
		fn = func(Txn) error { return nil }
	}
	h := e.hash(id)
	s := e.find(h, id)
	var st *txnState
	var r *record
	var seen int64
	if s != nil {
		var w uint32
		if r, w = s.published(); r != nil {
			seen = s.seen.Load()
			// The last-seen of a session made anew in this moment is not this state's: that is replaced before.
			if now := e.clock.now(); s.priv.Load() == r && (r.lives(seen, now, &e.life) || !r.expired(seen, now, &e.life)) {
				s.visitSeen(w)
				st = e.views.take()
			} else {
				r = nil
			}
		}
	}
	if r == nil {
		var err error
		if s, st, err = e.snapshot(ctx, h, id); err != nil {
			return err
		}
		s.visit()
		r, seen = st.base, s.seen.Load()
	}
	st.begin(s, r, ctx)
	st.seen = seen
	defer func() { // in one call
		st.release()
		if e.gate.Load()&gateClosing != 0 {
			e.shutdown.poke()
		}
	}()
	gen := st.gen.Own()
	if e.gate.Load()&gateClosing != 0 {
		return ErrClosed
	}
	return fn(Txn{st, gen})
}

// ViewEmpty runs fn on a session that does not exist and is not made: it has no id and no
// keys. It is for callers that show a visitor without a session what a new one would hold. It returns
// fn's error as it is, ErrClosed, or the context's error.
func (e *Engine) ViewEmpty(ctx context.Context, fn func(Txn) error) error {
	ctx = background(ctx)
	if err := ctx.Err(); err != nil {
		return err
	}
	if fn == nil {
		fn = func(Txn) error { return nil }
	}
	st := e.views.take()
	st.s.Store(noSession)
	st.base, st.ctx, st.seen = nil, ctx, 0
	defer e.endView(st)
	gen := st.gen.Own()
	if e.gate.Load()&gateClosing != 0 {
		return ErrClosed
	}
	return fn(Txn{st, gen})
}

// noSession is what ViewEmpty shows.
var noSession = newSession("", dead)

func (e *Engine) endView(st *txnState) {
	st.release()
	if e.gate.Load()&gateClosing != 0 {
		e.shutdown.poke()
	}
}

// snapshot returns the session, loaded if need be, and a state for a View with what it sees.
func (e *Engine) snapshot(ctx context.Context, h uint64, id string) (*session, *txnState, error) {
	if err := checkID(id); err != nil {
		return nil, nil, err
	}
	if e.gate.Load()&gateClosing != 0 {
		return nil, nil, ErrClosed
	}
	sh := e.shardOf(h)
	for {
		s := e.find(h, id)
		pinned := false
		if s == nil || s.status() == loading {
			var err error
			if s, err = e.fetch(ctx, sh, h, id, false); err != nil {
				return nil, nil, err
			}
			pinned = true
		}
		st := e.views.take()
		found, again := e.snapshotOf(sh, s, st)
		if pinned {
			e.unpin(sh, s)
		}
		if found {
			return s, st, nil
		}
		e.endView(st)
		if !again {
			return nil, nil, named(ErrNotFound, id)
		}
	}
}

// snapshotOf gives the View what it sees of a session, if that is alive.
func (e *Engine) snapshotOf(sh *shard, s *session, st *txnState) (found, again bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	switch s.status() {
	case dead, loading:
		return false, true
	case live:
		if !e.expireLocked(sh, s) {
			st.snapshotLocked(s)
			return true, false
		}
	}
	return false, false
}

// Touch marks the session as used now. It returns ErrNotFound if there is none.
func (e *Engine) Touch(ctx context.Context, id string) error {
	ctx = background(ctx)
	if err := checkID(id); err != nil {
		return err
	}
	if err := e.enter(ctx); err != nil {
		return err
	}
	return e.onSession(ctx, id, func(sh *shard, s *session) error {
		if s.status() != live || e.expireLocked(sh, s) {
			return named(ErrNotFound, id)
		}
		s.visit()
		e.touchLocked(sh, s)
		return nil
	})
}

// onSession calls fn with the session, loaded, under the latch of its shard. fn takes no
// time and calls no user code.
func (e *Engine) onSession(ctx context.Context, id string, fn func(*shard, *session) error) error {
	h := e.hash(id)
	sh := e.shardOf(h)
	for {
		s := e.find(h, id)
		pinned := false
		if s == nil || s.status() == loading {
			var err error
			if s, err = e.fetch(ctx, sh, h, id, false); err != nil {
				return err
			}
			pinned = true
		}
		sh.mu.Lock()
		if st := s.status(); st == dead || st == loading {
			sh.mu.Unlock()
			if pinned {
				e.unpin(sh, s)
			}
			continue
		}
		err := fn(sh, s)
		sh.mu.Unlock()
		if pinned || s.status() == absent {
			if pinned {
				s.unpin()
			}
			e.drop(sh, s)
		}
		return err
	}
}

// Delete ends the session. In memory that takes effect at once, whatever else
// goes on: it waits for no callback, and an Update that is running meanwhile
// commits nothing. Delete returns when the end is on disk; nil also if there was
// no session, once the ends of earlier calls are on disk. With
// ErrDurabilityUnknown or ErrPersistence the session has ended all the same, but may
// be back after a crash. With ErrClosed, and not ErrDurabilityUnknown, it has not ended: the engine was closing,
// and no end could be saved any more.
func (e *Engine) Delete(ctx context.Context, id string) error {
	ctx = background(ctx)
	if err := checkID(id); err != nil {
		return err
	}
	if e.reentrant(ctx) {
		return ErrReentrant
	}
	if e.gate.Load()&gateClosing != 0 {
		return ErrClosed
	}
	out, err := e.end(ctx, id, ReasonDeleted, nil)
	return e.settle(ctx, out, err)
}

// Wait returns when the session's version is greater than after, with its Info
// then. It returns ErrNotFound when the session ends, or has ended, and ErrBusy when a million calls hold it. It does not
// touch the session.
func (e *Engine) Wait(ctx context.Context, id string, after uint64) (Info, error) {
	ctx = background(ctx)
	if err := checkID(id); err != nil {
		return Info{}, err
	}
	for {
		if err := e.enter(ctx); err != nil {
			return Info{}, err
		}
		var (
			info    Info
			changed chan struct{}
			held    *session
			of      *shard
		)
		err := e.onSession(ctx, id, func(sh *shard, s *session) error {
			if s.status() != live || e.expireLocked(sh, s) {
				return named(ErrNotFound, id)
			}
			if s.priv.Load().version > after {
				info = e.infoOf(id, s.priv.Load(), s.seen.Load())
				return nil
			}
			x := s.extraOf()
			if x.watch == nil {
				x.watch = make(chan struct{})
			}
			if !s.tryPin() {
				return named(ErrBusy, id)
			}
			changed, held, of = x.watch, s, sh
			return nil
		})
		if err != nil || changed == nil {
			return info, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			err = ctx.Err()
		case <-e.stop:
			err = ErrClosed
		}
		e.unpin(of, held)
		if err != nil {
			return Info{}, err
		}
	}
}
