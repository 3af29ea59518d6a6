package sessionhttp

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

// stale reports whether the error is a token's.
func stale(err error) bool {
	return errors.Is(err, sessile.ErrNoToken) || errors.Is(err, sessile.ErrRenewed) || errors.Is(err, sessile.ErrEnded)
}

// proven returns what the token proves; ok is false when there is none. first is true once in a handle's life, for the
// first to use what it proves.
func (s *Session) proven(ctx context.Context, use bool) (g sessile.Grant, ok, first bool, err error) {
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
	if s.state == bound && use {
		first, s.used = !s.used, true
	}
	return s.grant, s.state == bound, first, s.err
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
		g, ok, first, err := s.proven(ctx, true)
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
		if first && err == nil {
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
		g, ok, first, err := s.proven(ctx, true)
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
		if first && err == nil {
			s.firstUse(ctx, g, true)
		}
		return answer(err)
	}
}

// lookAt notes whether the token is old.
func (s *Session) lookAt(tx sessile.Txn) {
	if after := s.m.opt.RenewAfter; after != Never && time.Since(tx.TokenTime()) > after {
		s.mu.Lock()
		s.due = true
		s.mu.Unlock()
	}
}

// firstUse touches the session and renews its token if it is old. Neither is a reason for
// the request to fail.
func (s *Session) firstUse(ctx context.Context, g sessile.Grant, touched bool) {
	if !touched && !s.noTouch.Load() {
		_ = s.m.engine.Touch(ctx, g.ID)
	}
	s.mu.Lock()
	due := s.due && !s.sealed
	s.due = false
	s.mu.Unlock()
	if due {
		s.renew(ctx, g)
	}
}

// NoTouch makes this request count for nothing in the session's idle timeout: for routes that poll. Call it before the
// session is used.
func (s *Session) NoTouch() { s.noTouch.Store(true) }

// Ensure makes the session now if there is none: for a page, before the parallel requests that it
// causes. Errors are those of Update.
func (s *Session) Ensure(ctx context.Context) error {
	for {
		_, ok, _, err := s.proven(ctx, false)
		if err != nil {
			return err
		}
		if ok {
			return s.View(ctx, nil)
		}
		if made, err := s.make(ctx, nil, false); made {
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
	if _, ok, _, err := s.proven(ctx, false); ok || err != nil {
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

// Login binds the session to the user, or a new one, if there is none or its token is dead, and gives it a new token
// and epoch: whoever knew an older token is out, and handles that rest on one answer sessile.ErrRenewed. A session bound
// to another user ends, and a new one begins. What flows and Once remember is dropped. fn, which may be nil, is part of the
// transaction, which is durable and goes on when the request is cancelled.
//
// It returns ErrHeadersSent, ErrTooManySessions, sessile.ErrInvalidID for a user that is empty or too long, sessile.ErrRenewed when another
// login was faster, fn's error, or the engine's: nothing has changed then. sessile.ErrDurabilityUnknown leaves the login in place;
// sessile.ErrEnded after it means that newer logins of the user have already pushed this one out.
func (s *Session) Login(ctx context.Context, user string, fn func(sessile.Txn) error) error {
	if s.m == nil {
		return ErrNoHandler
	}
	if user == "" {
		return sessile.ErrInvalidID
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	release, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	g, ok, _, err := s.proven(ctx, false)
	if err != nil && !errors.Is(err, sessile.ErrEnded) && !errors.Is(err, sessile.ErrNoToken) {
		return err
	}
	admitted, err := s.m.admitLogin(ctx, user, g.ID)
	if err != nil {
		return err
	}
	defer admitted()
	l := login{s: s, user: user, fn: fn, old: g}
	if ok {
		err = l.bindOld(ctx)
	} else {
		_, err = s.m.engine.Create(ctx, l.bind)
	}
	if !s.conclude(err, l.next, l.token, l.remember) {
		if err == errEpoch {
			return sessile.ErrRenewed
		}
		return answer(err)
	}
	s.m.opt.OnEvent(Event{Kind: LoggedIn, ID: l.next.ID, User: user})
	if s.m.opt.MaxPerUser > 0 && !s.m.opt.RefuseOverLimit {
		ended, keepErr := s.m.engine.KeepNewest(ctx, user, s.m.opt.MaxPerUser)
		if slices.Contains(ended, l.next.ID) {
			return sessile.ErrEnded
		}
		if err == nil {
			err = keepErr
		}
	}
	return err
}

// A login is one under way.
type login struct {
	s    *Session
	user string
	fn   func(sessile.Txn) error
	old  sessile.Grant

	// Set by bind.
	next     sessile.Grant
	token    string
	remember bool
}

// bind is what a login does to its session, inside the transaction.
func (l *login) bind(tx sessile.Txn) (err error) {
	if err := tx.SetUser(l.user); err != nil {
		return err
	}
	if err := tx.SetIdleTimeout(0); err != nil {
		return err
	}
	if err := dropOneTime(tx); err != nil {
		return err
	}
	if err := call(l.fn, tx); err != nil {
		return err
	}
	if l.token, err = tx.NewToken(sessile.TokenLogin); err != nil {
		return err
	}
	if l.remember, err = remembered.Get(tx); err != nil {
		return err
	}
	tx.Durable()
	l.next = sessile.Grant{ID: tx.ID(), Epoch: tx.Epoch()}
	return l.s.claim()
}

// bindOld logs in on the session that there is.
func (l *login) bindOld(ctx context.Context) error {
	e := l.s.m.engine
	err := e.Update(ctx, l.old.ID, func(tx sessile.Txn) error {
		if tx.Epoch() != l.old.Epoch {
			return errEpoch
		}
		if u := tx.Info().User; u != "" && u != l.user {
			return errOther
		}
		return l.bind(tx)
	})
	if err != errOther {
		return err
	}
	// One transaction ends the one and begins the other, so that of parallel logins one is first.
	added := false
	err = e.UpsertMany(ctx, []string{l.old.ID, newID()}, func(txs []sessile.Txn) error {
		if txs[0].Epoch() != l.old.Epoch { // or it has ended, and this is a new one
			return errEpoch
		}
		if err := l.bind(txs[1]); err != nil {
			return err
		}
		l.s.m.replaced.add(l.old.ID)
		added = true
		return txs[0].Destroy()
	})
	if added && err != nil && !errors.Is(err, sessile.ErrDurabilityUnknown) {
		l.s.m.replaced.remove(l.old.ID)
	}
	return err
}

// newID is as the engine's: 128 random bits.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	return base64.RawURLEncoding.EncodeToString(b[:])
}

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
	user, own, err := s.own(ctx)
	if err != nil {
		return err
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
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

// EndOthers ends the user's other sessions and returns how many. See EndOther.
func (s *Session) EndOthers(ctx context.Context) (n int, err error) {
	user, id, err := s.own(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	return s.m.engine.DeleteUser(ctx, user, id)
}
