package sessionhttp

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sessile-go/sessile"
)

// A Session is a handle on the session that a request's token proves, or on the one that it may yet
// make. It is safe for concurrent use, holds no lock between calls, and stays usable after the
// handler has returned; only what needs a cookie is refused then.
//
// # State
//
// The token is resolved on first use. From then on the handle knows that there is no session, the grant
// that the token gave, or the error that it is answered with. Every transaction checks the grant's epoch again.
//
// # Cookies
//
// A commit that needs a cookie must not stand if the header goes out before it, and the header must not go out
// between the commit and the cookie. So such a commit's last step inside its transaction is claim, which fails once the
// handle is sealed; and seal, which the writer calls before the header goes, waits while there is a claim. No code but the
// engine's runs under a claim.
type Session struct {
	m       *Manager
	cookies []string           // the request's Cookie headers
	base    context.Context    // the request's
	deliver func(*http.Cookie) // of Open; nil: pending is written with the header
	noTouch atomic.Bool

	mu sync.Mutex
	// Guarded by mu.
	state   state
	used    bool // touched, and looked whether the token is old
	due     bool // the token is old
	err     error
	grant   sessile.Grant
	pending *http.Cookie
	clear   bool          // Clear-Site-Data is pending
	sealed  bool          // no cookie can be set any more
	claimed chan struct{} // closed and nil when the claim has ended
	busy    chan struct{} // closed and nil when the call that may set a cookie has ended
	turn    chan struct{} // closed and nil when state changes, for Done
	done    chan struct{}
	stop    context.CancelFunc // ends what Done holds, if the request's end does not
	long    bool               // hijacked: it outlives the request's context
}

type state uint8

const (
	unknown state = iota
	absent        // there is no session
	bound         // to grant
	refused       // with err
)

var (
	errEpoch   = errors.New("sessionhttp: another epoch")
	errNothing = errors.New("sessionhttp: nothing to write")
	errOther   = errors.New("sessionhttp: session of another user")
)

// A callbackError keeps an error of the caller's apart from the engine's.
type callbackError struct{ error }

func call(fn func(sessile.Txn) error, tx sessile.Txn) error {
	if fn == nil {
		return nil
	}
	if err := fn(tx); err != nil {
		return &callbackError{err}
	}
	return nil
}

// ran reports whether a callback has run: its error is none of the engine's.
func ran(err error) bool {
	_, own := err.(*callbackError)
	return own || err == nil || errors.Is(err, sessile.ErrDurabilityUnknown)
}

// stale reports whether the error is a token's.
func stale(err error) bool {
	return errors.Is(err, sessile.ErrNoToken) || errors.Is(err, sessile.ErrRenewed) || errors.Is(err, sessile.ErrEnded)
}

// proven returns what the token proves; ok is false when there is none. first is true until it has been used.
func (s *Session) proven(ctx context.Context) (g sessile.Grant, ok, first bool, err error) {
	if s.m == nil {
		return g, false, false, ErrNoHandler
	}
	s.mu.Lock()
	if s.state == unknown {
		s.mu.Unlock()
		state, g, err := s.resolve(ctx)
		if err != nil && state != refused {
			return g, false, false, err
		}
		s.mu.Lock()
		if s.state == unknown { // nobody was faster
			s.setLocked(state, g, err)
		}
	}
	defer s.mu.Unlock()
	return s.grant, s.state == bound, !s.used, s.err
}

// resolve asks the engine, holding nothing. Errors that may pass come without a state.
func (s *Session) resolve(ctx context.Context) (state, sessile.Grant, error) {
	token, n := findCookie(s.cookies, s.m.opt.CookieName)
	switch n {
	case 0:
		return absent, sessile.Grant{}, nil
	case 1:
	default:
		return refused, sessile.Grant{}, sessile.ErrNoToken
	}
	g, err := s.m.engine.Resolve(ctx, token)
	switch {
	case err == nil:
		return bound, g, nil
	case errors.Is(err, sessile.ErrEnded) && s.m.replaced.has(idOf(token)):
		return refused, g, sessile.ErrRenewed
	case stale(err):
		return refused, g, err
	}
	return unknown, g, err
}

// idOf returns the id in a token that Resolve has found well-formed.
func idOf(token string) string { return token[:max(strings.LastIndexByte(token, '.'), 0)] }

func (s *Session) setLocked(st state, g sessile.Grant, err error) {
	s.state, s.grant, s.err = st, g, err
	if s.turn != nil {
		close(s.turn)
		s.turn = nil
	}
}

// overtaken answers a transaction that found another epoch than the grant's: again, if this handle's own Login or
// Logout was the cause, or with ErrRenewed.
func (s *Session) overtaken(g sessile.Grant) (again bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.awaitClaimLocked()
	if s.state != bound || s.grant != g {
		return true, nil
	}
	return false, sessile.ErrRenewed
}

// answer gives an error of the engine's the name that it has here.
func answer(err error) error {
	if err == nil {
		return nil
	}
	if c, ok := err.(*callbackError); ok {
		return c.error
	}
	if errors.Is(err, sessile.ErrNotFound) {
		return sessile.ErrEnded
	}
	return err
}

// View runs fn on a snapshot of the session, as [sessile.Engine.View] does. Without a session it sees an
// empty one, and none is made. It returns fn's error as it is; sessile.ErrRenewed, ErrEnded or ErrNoToken when the token
// proves nothing (any more); or the engine's.
func (s *Session) View(ctx context.Context, fn func(sessile.Txn) error) error {
	for {
		g, ok, first, err := s.proven(ctx)
		if err != nil {
			return err
		}
		if !ok {
			return s.m.engine.ViewEmpty(ctx, fn)
		}
		err = s.m.engine.View(ctx, g.ID, func(tx sessile.Txn) error {
			if tx.Epoch() != g.Epoch {
				return errEpoch
			}
			if first {
				s.lookAt(tx)
			}
			return call(fn, tx)
		})
		if err == errEpoch {
			if again, err := s.overtaken(g); !again {
				return err
			}
			continue
		}
		if first && ran(err) {
			s.firstUse(ctx, g, false)
		}
		return answer(err)
	}
}

// Update runs fn as a transaction on the session, as [sessile.Engine.Update] does. Without a session
// one is made, if fn changes anything, and its cookie set. It returns fn's error as it is; sessile.ErrRenewed, ErrEnded or ErrNoToken
// when the token proves nothing (any more); ErrHeadersSent when a session would have to be made but its cookie
// cannot be set; sessile.ErrTooMany when there are too many anonymous sessions; or the engine's. With any error but
// sessile.ErrDurabilityUnknown nothing was changed.
func (s *Session) Update(ctx context.Context, fn func(sessile.Txn) error) error {
	for {
		g, ok, first, err := s.proven(ctx)
		if err != nil {
			return err
		}
		if !ok {
			made, err := s.make(ctx, fn, true)
			if made {
				return err
			}
			continue
		}
		err = s.m.engine.Update(ctx, g.ID, func(tx sessile.Txn) error {
			if tx.Epoch() != g.Epoch {
				return errEpoch
			}
			if first {
				s.lookAt(tx)
			}
			if s.noTouch.Load() {
				tx.NoTouch()
			}
			return call(fn, tx)
		})
		if err == errEpoch {
			if again, err := s.overtaken(g); !again {
				return err
			}
			continue
		}
		if first && ran(err) {
			s.firstUse(ctx, g, err == nil)
		}
		return answer(err)
	}
}

// Ensure makes the session now if there is none: for a page, before the parallel requests that it
// causes. Errors are those of Update.
func (s *Session) Ensure(ctx context.Context) error {
	for {
		_, ok, _, err := s.proven(ctx)
		if err != nil {
			return err
		}
		if ok {
			return s.View(ctx, nil)
		}
		if done, err := s.make(ctx, nil, false); done {
			return err
		}
	}
}

// Restart is Ensure for a page that a person has opened: when the session has ended, or the token is
// unknown, it makes a new session, whose cookie replaces the browser's. Do not call it for
// requests that run beside a login, as scripts' do: the one could replace the other's cookie. A token that was
// renewed a moment ago stays ErrRenewed: the browser has a newer one when it asks again.
func (s *Session) Restart(ctx context.Context) error {
	err := s.Ensure(ctx)
	if !errors.Is(err, sessile.ErrEnded) && !errors.Is(err, sessile.ErrNoToken) {
		return err
	}
	s.mu.Lock()
	if s.state == refused {
		s.setLocked(absent, sessile.Grant{}, nil)
	}
	s.mu.Unlock()
	return s.Ensure(ctx)
}

// User returns the user whom the session is bound to, "" if none is.
func (s *Session) User(ctx context.Context) (user string, err error) {
	err = s.View(ctx, func(tx sessile.Txn) error {
		user = tx.Info().User
		return nil
	})
	return user, err
}

// make creates the session with a first transaction. It reports false when there was one by the time it had its turn.
func (s *Session) make(ctx context.Context, fn func(sessile.Txn) error, lazily bool) (made bool, err error) {
	release, err := s.begin(ctx)
	if err != nil {
		return true, err
	}
	defer release()
	if _, ok, _, err := s.proven(ctx); ok || err != nil {
		return false, nil
	}
	var (
		token    string
		next     sessile.Grant
		remember bool
	)
	_, err = s.m.engine.Create(ctx, func(tx sessile.Txn) (err error) {
		if err := tx.SetIdleTimeout(s.m.opt.AnonymousIdle); err != nil {
			return err
		}
		before := tx.Changes()
		if err := call(fn, tx); err != nil {
			return err
		}
		if lazily && tx.Changes() == before {
			return errNothing
		}
		if token, err = tx.NewToken(sessile.TokenLogin); err != nil {
			return err
		}
		if remember, err = remembered.Get(tx); err != nil {
			return err
		}
		next = sessile.Grant{ID: tx.ID(), Epoch: tx.Epoch()}
		return s.claim()
	})
	if err == errNothing {
		return true, nil
	}
	if s.conclude(err, next, token, remember) {
		s.m.opt.OnEvent(Event{Kind: Created, ID: next.ID})
	}
	return true, answer(err)
}
