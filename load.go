package sessile

import (
	"context"
	"errors"
	"fmt"

	"github.com/sessile-go/sessile/internal/store"
)

// fetch returns the session's object, pinned, when it is no longer loading. One
// goroutine reads the record however many callers miss together, and none of them waits
// longer than its context says. fresh is for an id known to be new.
func (e *Engine) fetch(ctx context.Context, sh *shard, h uint64, id string, fresh bool) (*session, error) {
	for {
		s := sh.find(h, id)
		if s == nil {
			st := loading
			if e.persist == nil {
				st = absent
			}
			n := newSession(id, st)
			n.word.Add(pinOne)
			var x *extra
			if st == loading {
				x = n.extraOf()
				x.loaded = make(chan struct{})
			}
			var added bool
			if s, added = sh.findOrAdd(h, id, n); added {
				e.count.misses.Add(1)
				if st != loading {
					return s, nil
				}
				go e.load(sh, h, s, x)
				return e.awaitLoad(ctx, sh, s, x)
			}
		}
		if !s.pin() {
			continue // dead, and about to leave the map
		}
		sh.mu.Lock()
		st, x := s.status(), s.extra.Load()
		sh.mu.Unlock()
		if st == loading || st == dead { // dead, though pinned: loaded just now
			return e.awaitLoad(ctx, sh, s, x)
		}
		return s, nil
	}
}

// awaitLoad waits for the loader of a pinned object, and returns the one to which the pin has passed; on an error it unpins.
func (e *Engine) awaitLoad(ctx context.Context, sh *shard, s *session, x *extra) (*session, error) {
	var err error
	select {
	case <-x.loaded:
		err = x.failed
	case <-ctx.Done():
		err = ctx.Err()
	}
	sh.mu.Lock()
	if x.became != nil {
		s = x.became
	}
	if err != nil {
		s.unpin()
	}
	sh.mu.Unlock()
	if err == nil {
		return s, nil
	}
	if s.status() == absent {
		e.drop(sh, s)
	}
	return nil, fmt.Errorf("load %q: %w", s.id(), err)
}

// load reads the record of a loading object and settles what it is.
func (e *Engine) load(sh *shard, h uint64, s *session, x *extra) {
	var r *record
	var seen int64
	var err error
	select {
	case e.loads <- struct{}{}:
		r, seen, err = e.readRecord(s.id())
		<-e.loads
	case <-e.stop: // the caller came in before the engine closed, which now has all the places
		err = ErrClosed
	}
	var to *session
	var stored *record
	if r != nil {
		to, stored = newBlock(int(r.used))
		r.copyTo(stored)
	}

	sh.mu.Lock()
	if s.status() != loading {
		// Ended unseen by a Delete that did not wait.
		if r != nil {
			e.settleBlindLocked(s, r, seen)
		}
		sh.mu.Unlock()
		close(x.loaded)
		return
	}
	switch {
	case err != nil:
		x.failed = err
		s.setStatus(dead)
	case r == nil:
		s.setStatus(absent)
	default:
		e.count.loads.Add(1)
		s.seen.Store(seen)
		s.mark(bitIndexed)
		x.became = e.becomeLocked(sh, s, to, stored)
		user, _ := stored.user()
		sh.addUserLocked(user, x.became)
	}
	sh.mu.Unlock()
	if err != nil {
		e.forget(sh, h, s)
	}
	close(x.loaded)
	e.evictSome()
}

// becomeLocked puts the object with its record, of the size that is now known, in the place of a loading one, and passes
// the pins on: those who wait for the load hold them.
func (e *Engine) becomeLocked(sh *shard, s, to *session, r *record) *session {
	for {
		w := s.word.Load()
		if s.word.CompareAndSwap(w, w&^statusMask&(pinOne-1)|uint32(dead)) {
			e.takePlaceLocked(sh, s, to, r, w)
			return to
		}
	}
}

// settleBlindLocked makes up for what the end of an unseen session could not do, now
// that its record is known: counts, index, tokens and OnEnd.
func (e *Engine) settleBlindLocked(s *session, r *record, seen int64) {
	if s.word.Load()&bitBlind == 0 {
		return
	}
	s.unmark(bitBlind)
	info := e.infoOf(s.id(), r, seen)
	if info.User != "" {
		s.outlivedLocked(info.User)
	}
	e.live.sessions.Add(-1)
	if info.User == "" {
		e.live.anonymous.Add(-1)
	}
	e.tokens.remember(e.clock.now(), r)
	e.ends.push(e, ending{info, ReasonDeleted})
}

// readRecord reads a session's record; nil if there is none.
func (e *Engine) readRecord(id string) (*record, int64, error) {
	p := e.persist
	if err := p.cause(); err != nil {
		return nil, 0, err
	}
	key := recordKey(id)
	v, ok, err := p.store.Get(key, nil)
	if err != nil {
		return nil, 0, p.readFailed(err)
	}
	if !ok {
		return nil, 0, nil
	}
	r, seen, err := p.openRecord(key, v)
	if err != nil {
		e.count.corrupt.Add(1)
		if errors.Is(err, ErrCorrupt) || errors.Is(err, ErrUnsupported) {
			e.opt.Logger.Error("sessile: unreadable record", "error", err)
		}
		return nil, 0, err
	}
	return r, seen, nil
}

// readFailed makes the failure of a read final, unless all that failed is that the engine has
// closed meanwhile, and returns the caller's error.
func (p *persister) readFailed(err error) error {
	if errors.Is(err, store.ErrClosed) && p.e.gate.Load()&gateClosing != 0 {
		return ErrClosed
	}
	p.fail(err)
	return fmt.Errorf("%w: %w", ErrPersistence, err)
}

// evictSome moves the eviction hands, shard after shard, while too much memory is in use.
func (e *Engine) evictSome() {
	if e.persist == nil || e.gate.Load()&gateFailed != 0 {
		return
	}
	for range len(e.shards) {
		if e.memory.Load() <= e.opt.MaxMemory {
			return
		}
		sh := e.shards[int(e.hand.Add(1))%len(e.shards)]
		e.count.evictions.Add(uint64(sh.evict(e, e.opt.MaxMemory)))
	}
	notify(e.persist.checkC) // what is left is dirty
}
