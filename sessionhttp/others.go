package sessionhttp

import (
	"context"
	"iter"

	"github.com/sessile-go/sessile"
)

// own returns the session's user and id.
func (s *Session) own(ctx context.Context) (user, id string, err error) {
	err = s.View(ctx, func(tx sessile.Txn) error {
		if user, id = tx.Info().User, tx.ID(); user == "" {
			return ErrNotSignedIn
		}
		return nil
	})
	return user, id, err
}

// Others yields the user's other sessions. ErrNotSignedIn is yielded without a user; other errors are those of View and
// of [sessile.Engine.ByUser].
func (s *Session) Others(ctx context.Context) iter.Seq2[sessile.Info, error] {
	return func(yield func(sessile.Info, error) bool) {
		user, id, err := s.own(ctx)
		if err != nil {
			yield(sessile.Info{}, err)
			return
		}
		for info, err := range s.m.engine.ByUser(ctx, user) {
			if err == nil && info.ID == id {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

// EndOther ends another session of the same user. sessile.ErrNotFound is returned for every other id, this session's
// too; ErrNotSignedIn without a user. It is durable, as [sessile.Engine.Delete] is, and goes on when the request is cancelled.
func (s *Session) EndOther(ctx context.Context, id string) error {
	if s.m == nil {
		return ErrNoHandler
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	user, own, err := s.own(ctx)
	if err != nil {
		return err
	}
	// A session's user does not change to another one, so what is seen here holds.
	theirs := ""
	err = s.m.engine.View(ctx, id, func(tx sessile.Txn) error {
		theirs = tx.Info().User
		return nil
	})
	if err == nil && (theirs != user || id == own) {
		err = sessile.ErrNotFound
	}
	if err != nil {
		return err
	}
	return s.m.engine.Delete(ctx, id)
}

// EndOthers ends the user's other sessions and returns how many: "log out everywhere else", with Logout "everywhere". See EndOther.
func (s *Session) EndOthers(ctx context.Context) (n int, err error) {
	if s.m == nil {
		return 0, ErrNoHandler
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	user, id, err := s.own(ctx)
	if err != nil {
		return 0, err
	}
	return s.m.engine.DeleteUser(ctx, user, id)
}
