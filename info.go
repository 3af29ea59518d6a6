package sessile

import (
	"context"
	"fmt"
	"time"
)

// Info describes a session. No secret is in it.
type Info struct {
	ID   string
	User string // "" for an anonymous session

	// Version grows with every commit and never repeats for an id, across
	// deletion, recreation and crashes, so it can serve as an ETag. It is 0
	// inside the transaction that creates the session.
	Version uint64

	Created  time.Time
	LastSeen time.Time
	Expires  time.Time // zero: time alone does not end it
	Bytes    int       // keys and values with what is kept for them
}

// A Reason says why a session ended.
type Reason uint8

// The reasons.
const (
	ReasonExpired Reason = iota + 1 // idle timeout, lifetime or deadline
	ReasonDeleted                   // Delete, Destroy or DeleteUser
	ReasonLimit                     // KeepNewest
)

// String returns "expired", "deleted" or "limit".
func (r Reason) String() string {
	switch r {
	case ReasonExpired:
		return "expired"
	case ReasonDeleted:
		return "deleted"
	case ReasonLimit:
		return "limit"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// A Session is a handle on one id: the engine's verbs without the id. It is a
// small value, holds no lock and no state, and stays usable when the session
// ends (its methods then return ErrNotFound).
type Session struct {
	engine *Engine
	id     string
}

// Session returns a handle on the id. It does not look whether a session has it.
func (e *Engine) Session(id string) Session { return Session{e, id} }

// ID returns the id.
func (s Session) ID() string { return s.id }

// Update is [Engine.Update] for this session.
func (s Session) Update(ctx context.Context, fn func(Txn) error) error {
	if s.engine == nil {
		return ErrClosed
	}
	return s.engine.Update(ctx, s.id, fn)
}

// View is [Engine.View] for this session.
func (s Session) View(ctx context.Context, fn func(Txn) error) error {
	if s.engine == nil {
		return ErrClosed
	}
	return s.engine.View(ctx, s.id, fn)
}

// Delete is [Engine.Delete] for this session.
func (s Session) Delete(ctx context.Context) error {
	if s.engine == nil {
		return ErrClosed
	}
	return s.engine.Delete(ctx, s.id)
}

// Touch is [Engine.Touch] for this session.
func (s Session) Touch(ctx context.Context) error {
	if s.engine == nil {
		return ErrClosed
	}
	return s.engine.Touch(ctx, s.id)
}

// Wait is [Engine.Wait] for this session.
func (s Session) Wait(ctx context.Context, after uint64) (Info, error) {
	if s.engine == nil {
		return Info{}, ErrClosed
	}
	return s.engine.Wait(ctx, s.id, after)
}

// infoOf describes a state.
func (e *Engine) infoOf(id string, r *record, seen int64) Info {
	info := Info{ID: id}
	if r == nil {
		return info
	}
	info.User, _ = r.user()
	info.Version = r.version
	info.Created = time.UnixMilli(r.created)
	info.LastSeen = time.UnixMilli(seen)
	if at := r.expires(seen, e.life); at != never {
		info.Expires = time.UnixMilli(at)
	}
	info.Bytes = int(r.used)
	return info
}
