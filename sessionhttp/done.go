package sessionhttp

import (
	"context"
	"errors"

	"github.com/sessile-go/sessile"
)

// Done returns a channel that is closed when the handle may no longer be used: the session has ended, or a login elsewhere
// has replaced its token; also when the request's context ends (or that of [Manager.Open]), or the engine closes. A stream
// selects on it, and ends. For a hijacked connection, which outlives its request, it is not closed with the request; Close then
// ends what waits for it.
func (s *Session) Done() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done == nil {
		s.done = make(chan struct{})
		if s.m == nil {
			close(s.done)
			return s.done
		}
		ctx, stop := context.WithCancel(context.WithoutCancel(s.base))
		s.stop = stop
		context.AfterFunc(s.base, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			if !s.long {
				stop()
			}
		})
		go s.watch(ctx, s.done)
	}
	return s.done
}

// Wait returns when the session's version is greater than after, at once if it already is: for streams that show a session
// as it changes, with [sessile.Info.Version] of what they showed last. It returns the errors of View, so it also ends when the session does.
func (s *Session) Wait(ctx context.Context, after uint64) (info sessile.Info, err error) {
	if ctx == nil {
		ctx = context.Background()
	}
	for {
		var id string
		err := s.View(ctx, func(tx sessile.Txn) error {
			info, id = tx.Info(), tx.ID()
			return nil
		})
		if err != nil || info.Version > after {
			return info, err
		}
		if id == "" {
			if !s.awaitTurn(ctx) {
				return info, ctx.Err()
			}
			continue
		}
		if _, err := s.m.engine.Wait(ctx, id, after); err != nil && !errors.Is(err, sessile.ErrNotFound) {
			return info, err
		}
	}
}

// Close closes Done. The handle can still be used.
func (s *Session) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop()
	}
}

// hijacking seals the handle, before the connection is taken from under the header, and lets it outlive its request. undo is
// for a connection that cannot be taken.
func (s *Session) hijacking() (undo func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitClaimLocked()
	sealed, long := s.sealed, s.long
	s.sealed, s.long = true, true
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.sealed, s.long = sealed, long
	}
}

// watch closes done when the handle's grant has ended.
func (s *Session) watch(ctx context.Context, done chan struct{}) {
	defer close(done)
	for {
		g, ok, _, err := s.proven(ctx)
		if err != nil {
			return
		}
		if !ok {
			if !s.awaitTurn(ctx) {
				return
			}
			continue
		}
		var version uint64
		err = s.m.engine.View(ctx, g.ID, func(tx sessile.Txn) error {
			if tx.Epoch() != g.Epoch {
				return errEpoch
			}
			version = tx.Info().Version
			return nil
		})
		if err == nil {
			_, err = s.m.engine.Wait(ctx, g.ID, version)
		}
		if err == nil {
			continue
		}
		// A login of this handle's own, to another user perhaps, goes on with another grant.
		if again, _ := s.overtaken(g); !again || ctx.Err() != nil {
			return
		}
	}
}

// awaitTurn waits until a handle without a session has one, or a new state.
func (s *Session) awaitTurn(ctx context.Context) bool {
	s.mu.Lock()
	if s.state != absent {
		s.mu.Unlock()
		return true
	}
	if s.turn == nil {
		s.turn = make(chan struct{})
	}
	turn := s.turn
	s.mu.Unlock()
	select {
	case <-turn:
		return true
	case <-ctx.Done():
		return false
	}
}
