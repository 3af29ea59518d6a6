package sessionhttp

import (
	"context"
	"errors"

	"github.com/sessile-go/sessile"
)

// Logout ends the session, for good and whatever its locks, the disk or the client do, and makes the browser forget its cookie if the
// header has not gone out. Without a session, or with one that has ended, it has nothing to do. sessile.ErrRenewed means that the token
// is an older one, and its session goes on. Any other error is about what is not known to be on disk: the session has ended, but a crash
// now could bring it back; or the session could not be read, and the browser alone was told to forget it.
func (s *Session) Logout(ctx context.Context) error {
	if s.m == nil {
		return ErrNoHandler
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	for {
		g, ok, _, err := s.proven(ctx, false)
		switch {
		case errors.Is(err, sessile.ErrEnded), errors.Is(err, sessile.ErrNoToken):
			return nil
		case errors.Is(err, sessile.ErrRenewed):
			return err
		case err != nil:
			s.forget(false)
			return err
		case !ok:
			return nil
		}
		err = s.m.engine.View(ctx, g.ID, func(tx sessile.Txn) error {
			if tx.Epoch() != g.Epoch {
				return errEpoch
			}
			return nil
		})
		if err == errEpoch {
			if again, err := s.overtaken(g); !again {
				return err
			}
			continue
		}
		// Whatever else View says: the token was good a moment ago.
		err = s.m.engine.Delete(ctx, g.ID)
		s.forget(true)
		if errors.Is(err, sessile.ErrNotFound) {
			return nil
		}
		return err
	}
}

// forget sets the cookie that ends the browser's.
func (s *Session) forget(ended bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ended {
		s.setLocked(refused, sessile.Grant{}, sessile.ErrEnded)
	}
	if s.sealed {
		return
	}
	s.clear = true
	s.sendLocked(s.m.expired())
}
