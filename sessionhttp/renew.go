package sessionhttp

import (
	"context"
	"time"

	"github.com/sessile-go/sessile"
)

// lookAt notes whether the token is old.
func (s *Session) lookAt(tx sessile.Txn) {
	if after := s.m.opt.RenewAfter; after != Never && time.Since(tx.TokenTime()) > after {
		s.mu.Lock()
		s.due = true
		s.mu.Unlock()
	}
}

// firstUse is called after a transaction that the token was good for, whatever its callback said. The first time it touches
// the session and renews its token if it is old. Neither is a reason for the request to fail.
func (s *Session) firstUse(ctx context.Context, g sessile.Grant, touched bool) {
	s.mu.Lock()
	first := !s.used
	due := first && s.due && !s.sealed
	s.used = true
	s.mu.Unlock()
	if first && !touched && !s.noTouch.Load() {
		_ = s.m.engine.Touch(ctx, g.ID)
	}
	if due {
		s.renew(ctx, g)
	}
}

// NoTouch makes this request count for nothing in the session's idle timeout: for routes that poll. Call it before the
// session is used.
func (s *Session) NoTouch() { s.noTouch.Store(true) }

// renew gives the session a new token without ending the old one. It is one of the things that every
// request of an old token tries, and the first does.
func (s *Session) renew(ctx context.Context, g sessile.Grant) {
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	ctx, cancelSoon := context.WithTimeout(ctx, renewPatience)
	defer cancelSoon()
	release, err := s.begin(ctx)
	if err != nil {
		return
	}
	defer release()
	var (
		token    string
		remember bool
		user     string
	)
	err = s.m.engine.Update(ctx, g.ID, func(tx sessile.Txn) (err error) {
		if tx.Epoch() != g.Epoch || time.Since(tx.TokenTime()) <= s.m.opt.RenewAfter {
			return errEpoch
		}
		if token, err = tx.NewToken(sessile.TokenRefresh); err != nil {
			return err
		}
		if remember, err = remembered.Get(tx); err != nil {
			return err
		}
		user = tx.Info().User
		tx.NoTouch()
		tx.Durable() // or a crash could forget the token that the browser has
		return s.claim()
	})
	if s.conclude(err, g, token, remember) {
		s.m.opt.OnEvent(Event{Kind: Renewed, ID: g.ID, User: user})
	}
}

// renewPatience bounds how long a renewal may hold up a request.
const renewPatience = time.Second
