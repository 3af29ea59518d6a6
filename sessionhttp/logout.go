package sessionhttp

import (
	"context"
	"errors"

	"github.com/sessile-go/sessile"
)

// Logout ends the session, for good and whatever its locks, the disk or the client do, and makes the browser forget its cookie if the
// header has not gone out. Without a session, or with one that has ended, it has nothing to do. It goes on when the request is
// cancelled.
//
// An error says that the end is not known to be on disk (sessile.ErrDurabilityUnknown or ErrPersistence): the session has ended, but a
// crash now could bring it back. But for these:
//
//   - sessile.ErrRenewed: the token is an older one, and its session goes on.
//   - sessile.ErrReentrant: called inside a transaction, where [sessile.Txn.Destroy] is the way. Nothing was done.
//   - sessile.ErrClosed, or what kept the token from being looked up: the browser alone was told to forget it.
func (s *Session) Logout(ctx context.Context) error {
	if s.m == nil {
		return ErrNoHandler
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	for {
		g, ok, _, err := s.proven(ctx)
		switch {
		case errors.Is(err, sessile.ErrEnded), errors.Is(err, sessile.ErrNoToken):
			return nil
		case errors.Is(err, sessile.ErrRenewed):
			return err
		case err != nil:
			s.forget()
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
		switch {
		case errors.Is(err, sessile.ErrReentrant):
		case errors.Is(err, sessile.ErrClosed):
			s.forget()
		case !s.ended(g):
			continue // a login of another goroutine with this handle went on meanwhile
		}
		return err
	}
}

// ended notes that the session of the grant has ended, and sets the cookie that ends the browser's. It reports false if the
// handle has another session by now.
func (s *Session) ended(g sessile.Grant) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitClaimLocked()
	if s.state == bound && s.grant != g {
		return false
	}
	s.setLocked(refused, sessile.Grant{}, sessile.ErrEnded)
	s.forgetLocked()
	return true
}

// forget sets the cookie that ends the browser's.
func (s *Session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgetLocked()
}

func (s *Session) forgetLocked() {
	if s.sealed {
		return
	}
	s.clear = true
	s.sendLocked(s.m.expired())
}
