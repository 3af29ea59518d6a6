package sessile

import (
	"context"
	"errors"
	"iter"
	"maps"
	"slices"
	"strings"
)

// Lists of sessions: all, and those of one user. Both read memory first and
// the disk afterwards: a session that is alive throughout is either met in memory, or was
// cold then and has a record since. Pages are copied out, so no lock is
// held and no iterator is open while the caller's body runs.

// listPage is how many entries are copied out at a time.
const listPage = 256

// All yields the live sessions, hot and cold, in no particular order, each
// once. One that begins or ends meanwhile may or may not be among them. It touches nothing. After an error, the
// context's or the store's, which comes with an empty Info, it ends. The body may call anything.
func (e *Engine) All(ctx context.Context) iter.Seq2[Info, error] {
	ctx = background(ctx)
	return func(yield func(Info, error) bool) {
		if err := e.enter(ctx); err != nil {
			yield(Info{}, err)
			return
		}
		told := make(map[string]struct{})
		for _, sh := range e.shards {
			sh.mu.Lock()
			ring := slices.Clone(sh.ring)
			sh.mu.Unlock()
			for _, s := range ring {
				if s == nil {
					continue
				}
				info, ok := e.infoIfLive(sh, s)
				if !ok {
					continue
				}
				if _, again := told[info.ID]; again {
					continue
				}
				told[info.ID] = struct{}{}
				if err := e.enter(ctx); err != nil {
					yield(Info{}, err)
					return
				}
				if !yield(info, nil) {
					return
				}
			}
		}
		for info, err := range e.cold(ctx, []byte{'r'}, 1) {
			if _, again := told[info.ID]; again && err == nil {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// infoIfLive describes a hot session.
func (e *Engine) infoIfLive(sh *shard, s *session) (Info, bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if s.status() == dead {
		s = sh.find(e.hash(s.id()), s.id()) // it may have moved
	}
	if s == nil || s.status() != live || e.expireLocked(sh, s) {
		return Info{}, false
	}
	return e.infoOf(s.id(), s.priv.Load(), s.seen.Load()), true
}

// cold yields the live sessions that have a key with the prefix on disk; the id
// begins at idAt in the key.
func (e *Engine) cold(ctx context.Context, prefix []byte, idAt int) iter.Seq2[Info, error] {
	return func(yield func(Info, error) bool) {
		p := e.persist
		if p == nil {
			return
		}
		var after []byte
		for {
			if err := e.enter(ctx); err != nil {
				yield(Info{}, err)
				return
			}
			if err := p.cause(); err != nil {
				yield(Info{}, err)
				return
			}
			var ids []string
			err := p.store.Scan(prefix, after, true, func(k, _ []byte) bool {
				ids = append(ids, string(k[idAt:]))
				after = append(after[:0], k...)
				return len(ids) < listPage
			})
			if err != nil {
				yield(Info{}, p.readFailed(err))
				return
			}
			for _, id := range ids {
				info, ok, err := e.look(id)
				if err == nil {
					err = e.enter(ctx)
				}
				if err != nil {
					yield(Info{}, err)
					return
				}
				if ok && !yield(info, nil) {
					return
				}
			}
			if len(ids) < listPage {
				return
			}
		}
	}
}

// look describes a session without making it hot. Memory has the newest word.
func (e *Engine) look(id string) (Info, bool, error) {
	h := e.hash(id)
	sh := e.shardOf(h)
	for {
		s := sh.find(h, id)
		// One that is dead has moved, and the disk is behind, or is about to leave the map.
		if s != nil && s.status() != loading {
			info, ok := e.infoIfLive(sh, s)
			if !ok && s.status() == dead {
				continue // evicted in this moment
			}
			return info, ok, nil
		}
		r, seen, err := e.readRecord(id)
		if err != nil || r == nil || r.expires(seen, e.life) <= e.clock.now() {
			return Info{}, false, err
		}
		// It may have been loaded and ended between the two looks.
		if now := sh.find(h, id); now != s && now != nil {
			continue
		}
		return e.infoOf(id, r, seen), true, nil
	}
}

// ByUser yields the live sessions of a user, as [Txn.SetUser] bound them, hot and cold. For
// the rest it is like All.
func (e *Engine) ByUser(ctx context.Context, user string) iter.Seq2[Info, error] {
	ctx = background(ctx)
	return func(yield func(Info, error) bool) {
		if err := checkID(user); err != nil {
			yield(Info{}, err)
			return
		}
		if err := e.enter(ctx); err != nil {
			yield(Info{}, err)
			return
		}
		told := make(map[string]struct{})
		for _, sh := range e.shards {
			sh.mu.Lock()
			mine := slices.Collect(maps.Keys(sh.users[user]))
			sh.mu.Unlock()
			for _, s := range mine {
				info, ok := e.infoIfLive(sh, s)
				if !ok || info.User != user {
					continue
				}
				told[info.ID] = struct{}{}
				if err := e.enter(ctx); err != nil {
					yield(Info{}, err)
					return
				}
				if !yield(info, nil) {
					return
				}
			}
		}
		if e.persist == nil {
			return
		}
		prefix := e.persist.indexPrefix(user)
		for info, err := range e.cold(ctx, prefix, len(prefix)) {
			if err == nil {
				if _, again := told[info.ID]; again || info.User != user {
					continue
				}
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// DeleteUser ends all sessions of a user but those with the ids excepted: log
// out everywhere. It returns how many this call ended, when their ends, and those that earlier
// calls made, are on disk. Every session that was the user's when it was called
// has ended; one that another call binds to the user meanwhile may be left. Errors are those of Delete; the sessions found have
// ended all the same.
func (e *Engine) DeleteUser(ctx context.Context, user string, except ...string) (n int, err error) {
	ctx = background(ctx)
	if err := checkID(user); err != nil {
		return 0, err
	}
	var ids []string
	for info, err := range e.ByUser(ctx, user) {
		if err != nil {
			return e.endAll(ctx, user, ids, ReasonDeleted, err)
		}
		if !slices.Contains(except, info.ID) {
			ids = append(ids, info.ID)
		}
	}
	return e.endAll(ctx, user, ids, ReasonDeleted, nil)
}

// endAll ends those of the sessions that are still the user's, then waits once.
func (e *Engine) endAll(ctx context.Context, user string, ids []string, reason Reason, err error) (n int, _ error) {
	if errors.Is(err, ErrReentrant) || errors.Is(err, ErrClosed) {
		return 0, err
	}
	ended, err := e.endThose(ctx, user, ids, reason, err)
	return len(ended), err
}

func (e *Engine) endThose(ctx context.Context, user string, ids []string, reason Reason, err error) (ended []string, _ error) {
	for _, id := range ids {
		out, endErr := e.end(ctx, id, reason, func(r *record) bool { return r.hasUser(user) })
		if len(out.ends) > 0 {
			ended = append(ended, id)
		}
		for _, end := range out.ends {
			e.onEnd(end)
		}
		if err == nil {
			err = endErr
		}
	}
	if err == nil && e.persist != nil {
		var g *group
		if g, err = e.openGroup(e.shards[0]); err == nil {
			err = e.persist.await(ctx, g)
		}
	}
	return ended, err
}

// A userSession is one candidate of KeepNewest.
type userSession struct {
	id    string
	since int64
}

// newestFirst orders a user's sessions.
func newestFirst(a, b userSession) int {
	switch {
	case a.since > b.since:
		return -1
	case a.since < b.since:
		return 1
	}
	return strings.Compare(a.id, b.id)
}

// KeepNewest ends the oldest sessions of a user until at most max are left, and
// returns the ids of those that this call ended, when their ends are on disk. A session is as
// old as its last SetUser to this user; ids decide between equals, so two calls at once
// agree on who goes. Errors are those of Delete.
func (e *Engine) KeepNewest(ctx context.Context, user string, max int) (ended []string, err error) {
	ctx = background(ctx)
	if err := checkID(user); err != nil {
		return nil, err
	}
	var all []userSession
	for info, err := range e.ByUser(ctx, user) {
		if err != nil {
			return nil, err
		}
		err = e.onSession(ctx, info.ID, func(_ *shard, s *session) error {
			if s.status() == live {
				if u, since := s.priv.Load().user(); u == user {
					all = append(all, userSession{info.ID, since})
				}
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	keep := 0
	if max > 0 {
		keep = max
	}
	slices.SortFunc(all, newestFirst)
	var ids []string
	for _, s := range all[min(len(all), keep):] {
		ids = append(ids, s.id)
	}
	return e.endThose(ctx, user, ids, ReasonLimit, nil)
}
