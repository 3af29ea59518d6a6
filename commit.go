package sessile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"unsafe"

	"github.com/sessile-go/sessile/internal/invariants"
)

// How a transaction takes effect. The steps, for one session or many:
//
//	prepare  under the session lock: locate the changes, check the limits, build
//	         the next state if they do not fit in place
//	latch    of every shard concerned, in order
//	check    that no session has ended or expired since, and the seal (nothing is
//	         applied then)
//	log      give each session its version and append its delta; mark it changed.
//	         From here on the commit stands.
//	apply    put the new state in place
//	release  latches, then session locks
//
// So a commit is visible only once it is in the log, and a cut of the log, which
// takes all those latches, has either all of it or nothing (invariants 1 and 4).

// changes reports whether anything is staged that makes a new version.
func (st *txnState) changes() bool {
	if st.base == nil {
		return true
	}
	for i := range st.staged {
		if !st.staged[i].void() {
			return true
		}
	}
	return false
}

// prepare checks the limits and builds the next state where the changes do not
// fit in place.
func (st *txnState) prepare(e *Engine) error {
	published := st.s.Own().isPublished()
	if st.base != nil && !published && fits(st.staged) && !st.stagesUser() {
		return nil
	}
	used, fields := st.base.with(st.staged)
	// A session that was there before the limit was lowered may change as long as it does not grow, as it may in place.
	if used > e.opt.MaxSessionSize && (st.base == nil || used > int(st.base.used)) || fields > MaxKeys {
		return fmt.Errorf("%w: session %q of %d bytes and %d keys", ErrTooLarge, st.s.Own().id(), used, fields)
	}
	switch {
	case st.base != nil && !published && used <= ownMost && used <= int(st.base.room) && int(st.base.room) <= 2*used+64:
		st.next = st.ownRecord(used) // it will replace the base in its memory
	case st.s.Own().movable():
		st.block, st.next = newBlock(used)
	default:
		st.next = newRecord(used)
	}
	st.next.merge(st.base, st.staged)
	return nil
}

// stagesUser reports whether the user is among the changes: then index and counts
// follow the new state, also when it would fit in place.
func (st *txnState) stagesUser() bool {
	for i := range st.staged {
		if st.staged[i].key[0] != 0 {
			return false
		}
		if st.staged[i].key == keyUser {
			return true
		}
	}
	return false
}

// checkLocked returns an error if the session ended or expired under the callback.
func (st *txnState) checkLocked(e *Engine, now int64) error {
	switch st.s.Own().status() {
	case live:
		if st.base != nil && !e.expireLocked(st.sh, st.s.Own()) {
			return nil
		}
	case absent, ended:
		if st.base == nil {
			return nil
		}
	}
	return named(ErrNotFound, st.s.Own().id())
}

// admitLocked reserves what the commit adds to the engine's bounds, or refuses it.
func (st *txnState) admitLocked(e *Engine) error {
	if st.sh.sealed != nil {
		return st.sh.sealed
	}
	if st.next == nil {
		return nil
	}
	grows := int64(0)
	if st.next != st.own {
		grows = int64(st.next.size())
		if st.block != nil || st.base != st.s.Own().own() {
			grows -= int64(st.base.size()) // else its memory stays the session's
		}
	}
	if st.base == nil {
		grows += sessionOverhead
	}
	if e.persist == nil && grows > 0 && e.memory.Load()+grows > e.opt.MaxMemory {
		return fmt.Errorf("%w: Options.MaxMemory is used up", ErrTooLarge)
	}
	if st.anonymity() > 0 && e.opt.MaxAnonymous > 0 {
		if e.live.anonymous.Add(1) > int64(e.opt.MaxAnonymous) {
			e.live.anonymous.Add(-1)
			return ErrTooMany
		}
	} else {
		e.live.anonymous.Add(st.anonymity())
	}
	return nil
}

// readmitLocked takes back what admitLocked reserved.
func (st *txnState) readmitLocked(e *Engine) {
	if st.next != nil {
		e.live.anonymous.Add(-st.anonymity())
	}
}

// anonymity is by how much the commit changes the number of anonymous sessions.
func (st *txnState) anonymity() int64 {
	n := int64(0)
	if st.next.flags&flagUser == 0 {
		n++
	}
	if st.base != nil && st.base.flags&flagUser == 0 {
		n--
	}
	return n
}

// logLocked gives the commit its version and appends it to the log. It cannot fail.
func (st *txnState) logLocked(e *Engine, now int64) (version uint64, seen int64) {
	s, sh := st.s.Own(), st.sh
	seen = now
	if st.noTouch && st.base != nil {
		seen = s.seen.Load()
	}
	sh.version++
	if st.base == nil {
		e.live.sessions.Add(1)
		e.count.creates.Add(1)
	}
	if e.persist != nil {
		st.logChangeLocked(e, sh.version, seen)
	}
	return sh.version, seen
}

// logChangeLocked appends the delta of the commit, and marks the session changed.
func (st *txnState) logChangeLocked(e *Engine, version uint64, seen int64) {
	s, sh := st.s.Own(), st.sh
	kind := deltaChange
	if st.base == nil {
		kind = deltaCreate
	}
	// The session's newest delta may be overwritten while its group is open: redo
	// with absolute values makes the older one superfluous.
	if kind == deltaChange && st.base.version > sh.cut && int(s.logAt) < len(sh.log) {
		d := sh.log[s.logAt:]
		if invariants.Enabled {
			invariants.Assert(binary.LittleEndian.Uint64(d[6:]) == st.base.version, "the delta of %q is not its newest", s.id())
		}
		done := false
		if shape := shapeOf(st.staged); shape != 0 && shape == s.logShape {
			// Only written to: reading it would be one more cache miss to wait for.
			redate(d, version, seen)
			c := &st.staged[0]
			put(unsafe.Pointer(&d[deltaHeader+len(s.id())+fieldHeader+len(c.key)]), c.value)
			done = true
		} else if binary.LittleEndian.Uint64(d[6:]) == st.base.version {
			done = overwriteDelta(d, len(s.id()), version, seen, st.staged)
		}
		if done {
			if s.word.Load()&bitChanged == 0 {
				sh.markChangedLocked(s)
			}
			return
		}
	}
	if len(sh.log) == 0 {
		e.persist.arm()
	}
	s.logAt, s.logShape = uint32(len(sh.log)), 0
	if kind == deltaChange {
		s.logShape = shapeOf(st.staged)
	}
	sh.log = appendDelta(sh.log, kind, s.id(), version, seen, st.staged)
	sh.markChangedLocked(s)
	sh.reportLocked(e)
}

// reportStep returns how many bytes a shard gathers before it tells the
// persister, so that commits do not share a counter: less where the bounds are tight.
func reportStep(opt *Options, shards int) int64 {
	return min(max(min(opt.MaxMemory, opt.MaxLogBytes)/int64(8*shards), 256), 16<<10)
}

// reportLocked tells the persister of bytes logged and sessions changed.
func (sh *shard) reportLocked(e *Engine) {
	if n := len(sh.log) - sh.counted; int64(n) >= e.reportStep {
		sh.counted += n
		e.persist.grew(int64(n))
	}
	if d := sh.dirty - sh.dirtyKnown; d >= e.reportStep || d <= -e.reportStep {
		sh.dirtyKnown = sh.dirty
		e.persist.dirtied(d)
	}
}

// outlivedLocked notes a user under which the index on disk may list the session.
func (s *session) outlivedLocked(user string) {
	x := s.extraOf()
	if !slices.Contains(x.users, user) {
		x.users = append(x.users, user)
	}
}

// applyLocked puts the new state in place. The log has it already.
func (st *txnState) applyLocked(e *Engine, version uint64, seen int64) {
	s, sh := st.s.Own(), st.sh
	before, size := int64(0), st.base.size()
	was := uint64(0) // the base may be written over
	if invariants.Enabled && st.base != nil {
		was = st.base.version
	}
	if s.word.Load()&bitRinged != 0 {
		before = s.footprint()
	}
	rebound, old := st.stagesUser(), ""
	if rebound {
		old, _ = st.base.user()
	}
	s.wakeLocked()
	r, moved := st.stateLocked(e, seen)
	if moved {
		s = st.block
		st.s.Store(s)
	} else {
		if st.base == nil {
			s.setStatus(live)
			sh.adoptLocked(s)
		}
		if by := s.footprint() - before; by != 0 {
			e.memory.Add(by)
		}
	}
	if e.persist != nil {
		sh.dirty += int64(r.size() - size) // it is marked changed
	}
	r.version = version
	r.setSaved(seen)
	if s.seen.Load() != seen {
		s.seen.Store(seen)
	}
	if invariants.Enabled {
		err := r.verify()
		invariants.Assert(err == nil, "commit of %q: %v", s.id(), err)
		invariants.Assert(r == s.priv.Load() && s.word.Load()&bitPublished == 0, "commit of %q into a published record", s.id())
		invariants.Assert(s.lk.Load()&lockHeld != 0, "commit of %q without its lock", s.id())
		invariants.Assert(version > was || st.next == nil, "version of %q goes back", s.id())
	}
	if s.word.Load()&bitTouched != 0 {
		s.unmark(bitTouched)
	}
	if rebound {
		sh.rebindLocked(s, old, r)
	}
}

// stateLocked makes the new state the session's, and reports whether the session moved for it.
func (st *txnState) stateLocked(e *Engine, seen int64) (r *record, moved bool) {
	s := st.s.Own()
	r = s.priv.Load()
	published := s.isPublished()
	next := st.next
	switch {
	case next == nil:
		if published {
			r = r.clone(int(r.used))
			s.installLocked(r)
		}
		r.overwrite(st.staged)
	case next == st.own && !published:
		next.copies = r.copies
		next.copyTo(r)
	default:
		if next == st.own {
			next = next.clone(int(next.used)) // published since prepare
		}
		if r = next; st.base == nil {
			r.created = seen
		} else {
			r.copies = st.base.copies
		}
		if moved = st.block != nil && e.moveLocked(st.sh, s, st.block, r); !moved {
			s.installLocked(r)
		}
	}
	if published || r.copies != 0 {
		r.copies = viewCopies + 1
	}
	return r, moved
}

// rebindLocked keeps the index of users in step with a session whose user was old.
func (sh *shard) rebindLocked(s *session, old string, r *record) {
	user, _ := r.user()
	if user == old {
		return
	}
	sh.addUserLocked(user, s)
	s.unmark(bitIndexed)
	if old != "" {
		sh.removeUserLocked(old, s)
		s.outlivedLocked(old)
	}
}

// commit makes what one transaction staged take effect.
func (e *Engine) commit(st *txnState) (out outcome, err error) {
	sh := st.sh
	if st.destroy {
		return e.commitDestroy(st)
	}
	if st.inPlace && len(st.staged) > 0 {
		if out, done := e.commitInPlace(st); done {
			return out, nil
		}
	}
	if !st.changes() {
		return e.commitNothing(st)
	}
	if err := st.prepare(e); err != nil {
		return outcome{}, err
	}
	now := e.clock.now()
	sh.mu.Lock()
	err = st.checkLocked(e, now)
	if err == nil {
		err = st.admitLocked(e)
	}
	if err != nil {
		sh.mu.Unlock()
		return outcome{}, err
	}
	version, seen := st.logLocked(e, now)
	if st.durable && e.persist != nil {
		out.wait = e.persist.open
	}
	st.applyLocked(e, version, seen)
	sh.mu.Unlock()
	return out, nil
}

// commitInPlace is commit for the common case, in one pass under the latch: values are overwritten by
// others of their size, in a session that nothing has happened to. It reports false, with nothing done, where
// there is more to it.
func (e *Engine) commitInPlace(st *txnState) (out outcome, done bool) {
	s, sh := st.s.Own(), st.sh
	now := e.clock.now()
	sh.mu.Lock()
	seen := s.seen.Load()
	r := st.base
	if w := s.word.Load(); w&(statusMask|bitPublished|bitTouched) != uint32(live) ||
		now != st.now && r.expired(seen, now, &e.life) || sh.sealed != nil {
		sh.mu.Unlock()
		return outcome{}, false
	}
	if !st.noTouch && now != seen {
		seen = now
		s.seen.Store(now)
		r.setSaved(now)
	}
	sh.version++
	if e.persist != nil {
		st.logChangeLocked(e, sh.version, seen)
		if st.durable {
			out.wait = e.persist.open
		}
	}
	r.overwrite(st.staged)
	r.version = sh.version
	if r.copies != 0 {
		r.copies = viewCopies + 1
	}
	if invariants.Enabled {
		err := r.verify()
		invariants.Assert(err == nil, "commit of %q: %v", s.id(), err)
		invariants.Assert(r == s.priv.Load(), "%q was replaced under its lock", s.id())
	}
	s.wakeLocked()
	s.unlockLocked()
	st.locked = false
	sh.mu.Unlock()
	return out, true
}

// commitNothing touches the session of a transaction that staged nothing. If it
// is durable it rests on what others logged before.
func (e *Engine) commitNothing(st *txnState) (out outcome, err error) {
	s, sh := st.s.Own(), st.sh
	sh.mu.Lock()
	if err = st.checkLocked(e, e.clock.now()); err == nil && !st.noTouch {
		e.touchLocked(sh, s)
	}
	if err == nil && st.durable && e.persist != nil {
		out.wait = e.persist.open
	}
	sh.mu.Unlock()
	return out, err
}

func (e *Engine) commitDestroy(st *txnState) (out outcome, err error) {
	s, sh := st.s.Own(), st.sh
	if st.base == nil {
		// Created and destroyed: there never was one. What is durable is all before it.
		out.wait, err = e.openGroup(sh)
		return out, err
	}
	sh.mu.Lock()
	if err = st.checkLocked(e, e.clock.now()); err == nil && sh.sealed == ErrClosed {
		err = ErrClosed
	}
	if err == nil {
		out = e.endLocked(sh, s, ReasonDeleted)
	}
	sh.mu.Unlock()
	if err == nil && e.persist != nil && out.wait == nil {
		return out, e.persist.sealedError()
	}
	return out, err
}

// touchLocked moves last-seen. It reaches the log only when it matters, about
// ten times per idle timeout, so that use does not become writing; what has not, is
// written before the session is evicted.
func (e *Engine) touchLocked(sh *shard, s *session) {
	now := e.clock.now()
	if now <= s.seen.Load() {
		return
	}
	s.seen.Store(now)
	if e.persist == nil {
		return
	}
	r := s.priv.Load()
	every := int64(touchUnlimited)
	if idle := r.idle(e.life); idle >= 0 {
		every = idle / 10
	}
	if now-r.savedSeen() < every || e.gate.Load() != 0 {
		s.mark(bitTouched)
		return
	}
	if sh.sealed == nil {
		if len(sh.log) == 0 {
			e.persist.arm()
		}
		sh.log = appendDelta(sh.log, deltaTouch, s.id(), r.version, now, nil)
		sh.markChangedLocked(s)
		sh.reportLocked(e)
	}
	r.setSaved(now)
	s.unmark(bitTouched)
}

// touchUnlimited is how often, in ms, last-seen is logged for a session without an idle timeout.
const touchUnlimited = 3600_000

// expireLocked ends the session if its time has come, and reports whether it did.
func (e *Engine) expireLocked(sh *shard, s *session) bool {
	if !s.priv.Load().expired(s.seen.Load(), e.clock.now(), &e.life) {
		return false
	}
	if sh.sealed == ErrClosed {
		return true // too late to be saved: its end is the next life's to count and to tell
	}
	for _, end := range e.endLocked(sh, s, ReasonExpired).ends {
		e.ends.push(e, end)
	}
	return true
}

// endLocked ends a live session: in memory at once, whatever holds its lock,
// and in the log unless that is sealed (wait is nil then). It needs no room:
// an end is never refused.
func (e *Engine) endLocked(sh *shard, s *session, reason Reason) (out outcome) {
	r := s.priv.Load()
	out.ends = []ending{{e.infoOf(s.id(), r, s.seen.Load()), reason}}
	e.logEndLocked(sh, s, r, e.clock.now())
	if e.persist != nil && sh.sealed == nil {
		out.wait = e.persist.open
	}
	e.endedLocked(s, reason)
	return out
}

// logEndLocked accounts for the end of a session, r being its state if that is
// known, and appends it to the log.
func (e *Engine) logEndLocked(sh *shard, s *session, r *record, now int64) {
	sh.version++
	if r != nil {
		user, _ := r.user()
		e.live.sessions.Add(-1)
		if user == "" {
			e.live.anonymous.Add(-1)
		} else {
			sh.removeUserLocked(user, s)
			s.outlivedLocked(user)
		}
		if r != s.own() {
			e.memory.Add(-int64(r.size()))
		}
	}
	if e.persist == nil || sh.sealed != nil {
		return
	}
	if len(sh.log) == 0 {
		e.persist.arm()
	}
	sh.log = appendDelta(sh.log, deltaEnd, s.id(), sh.version, now, nil)
	sh.markChangedLocked(s)
	if r != nil {
		sh.dirty -= int64(r.size())
	}
	sh.reportLocked(e)
}

// endedLocked makes the end visible. The log has it already.
func (e *Engine) endedLocked(s *session, reason Reason) {
	if r := s.priv.Load(); r != nil {
		e.tokens.remember(e.clock.now(), r)
	}
	s.unmark(bitIndexed | bitTouched)
	s.installLocked(nil)
	if e.persist == nil {
		s.setStatus(absent)
	} else {
		s.setStatus(ended)
	}
	switch reason {
	case ReasonExpired:
		e.count.expirations.Add(1)
	case ReasonDeleted:
		e.count.deletes.Add(1)
	case ReasonLimit:
		e.count.limited.Add(1)
	}
	s.wakeLocked()
}

// end ends the session of an id for a reason, if it is live and match (nil:
// any) agrees, seen under the latch. A nil outcome.wait with a nil error means that
// there is nothing to wait for. The session ends also when its record cannot be read.
func (e *Engine) end(ctx context.Context, id string, reason Reason, match func(*record) bool) (out outcome, err error) {
	err = e.onSession(ctx, id, func(sh *shard, s *session) error {
		if s.status() == live && !e.expireLocked(sh, s) && (match == nil || match(s.priv.Load())) {
			if sh.sealed == ErrClosed {
				return ErrClosed // too late to be saved, so it is not seen to end either
			}
			out = e.endLocked(sh, s, reason)
			if e.persist != nil && out.wait == nil {
				return e.persist.sealedError()
			}
			return nil
		}
		out.wait, err = e.openGroupLocked(sh)
		return err
	})
	if err != nil && match == nil && len(out.ends) == 0 && e.persist != nil && !errors.Is(err, ErrDurabilityUnknown) && !errors.Is(err, ErrClosed) {
		return e.endBlind(id, err)
	}
	return out, err
}

// openGroup returns the group whose durability covers all that is logged so
// far; nil in memory.
func (e *Engine) openGroup(sh *shard) (*group, error) {
	if e.persist == nil {
		return nil, nil
	}
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return e.openGroupLocked(sh)
}

func (e *Engine) openGroupLocked(sh *shard) (*group, error) {
	if e.persist == nil {
		return nil, nil
	}
	if sh.sealed != nil {
		return nil, e.persist.sealedError()
	}
	return e.persist.open, nil
}

// endBlind ends a session whose record could not be read, because the context
// ended, the disk failed or the record is damaged: a logout does not fail open.
func (e *Engine) endBlind(id string, cause error) (out outcome, err error) {
	h := e.hash(id)
	sh := e.shardOf(h)
	for {
		// Added under the latch, so that nobody takes it for one that is being loaded.
		sh.mu.Lock()
		s := sh.find(h, id)
		if s == nil && sh.sealed == ErrClosed {
			sh.mu.Unlock()
			return outcome{}, ErrClosed
		}
		s, _ = sh.findOrAdd(h, id, newSession(id, loading))
		switch s.status() {
		case dead:
			sh.mu.Unlock()
			continue
		case live:
			if sh.sealed == ErrClosed {
				sh.mu.Unlock()
				return outcome{}, ErrClosed
			}
			if !e.expireLocked(sh, s) {
				out = e.endLocked(sh, s, ReasonDeleted)
			}
		case loading, absent:
			if sh.sealed == ErrClosed {
				sh.mu.Unlock()
				return outcome{}, ErrClosed
			}
			e.logEndLocked(sh, s, nil, e.clock.now())
			if sh.sealed == nil {
				out.wait = e.persist.open
			}
			s.mark(bitBlind)
			e.endedLocked(s, ReasonDeleted)
		case ended:
			out.wait, err = e.openGroupLocked(sh)
		}
		sh.mu.Unlock()
		break
	}
	if out.wait == nil && err == nil {
		err = e.persist.sealedError()
	}
	if err == nil && !errors.Is(cause, ErrCorrupt) && !errors.Is(cause, ErrUnsupported) {
		// The end is in the log and will be durable, but the caller's context
		// or the disk does not let this call see it.
		if ctxEnded(cause) {
			err = durabilityUnknown(cause)
			out.wait = nil
		}
	}
	return out, err
}

func ctxEnded(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
