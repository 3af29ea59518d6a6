package sessionhttp

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"

	"github.com/sessile-go/sessile"
)

// Login binds the session to the user, or a new one, if there is none or its token is dead, and gives it a new token
// and epoch: whoever knew an older token is out, and handles that rest on one answer sessile.ErrRenewed. A session bound
// to another user ends, and a new one begins. What flows and Once remember is dropped. fn, which may be nil, is part of the
// transaction, which is durable and goes on when the request is cancelled.
//
// It returns ErrHeadersSent, ErrTooManySessions, sessile.ErrInvalidID for a user that is empty or too long, sessile.ErrRenewed when another
// login was faster, sessile.ErrEnded when the session ended meanwhile, fn's error, or the engine's: nothing has changed then. sessile.ErrDurabilityUnknown leaves the login in place;
// sessile.ErrEnded with it that logins which do not go through this Manager have pushed this one out.
func (s *Session) Login(ctx context.Context, user string, fn func(sessile.Txn) error) error {
	if s.m == nil {
		return ErrNoHandler
	}
	if user == "" {
		return sessile.ErrInvalidID
	}
	ctx, cancel := s.m.detach(ctx)
	defer cancel()
	l := login{s: s, user: user, fn: fn}
	err := l.run(ctx)
	if l.stands {
		s.m.opt.OnEvent(Event{Kind: LoggedIn, ID: l.next.ID, User: user})
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

	stands bool
}

func (l *login) run(ctx context.Context) error {
	s := l.s
	release, err := s.begin(ctx)
	if err != nil {
		return err
	}
	defer release()
	g, ok, _, err := s.proven(ctx)
	if err != nil && !errors.Is(err, sessile.ErrEnded) && !errors.Is(err, sessile.ErrNoToken) {
		return err
	}
	next, err := s.m.takeTurn(ctx, l.user)
	if err != nil {
		return err
	}
	defer next()
	if err := s.m.admit(ctx, l.user, g.ID); err != nil {
		return err
	}
	l.old = g
	if ok {
		err = l.bindOld(ctx)
	} else {
		_, err = s.m.engine.Create(ctx, l.bind)
	}
	l.stands = s.conclude(err, l.next, l.token, l.remember)
	if !l.stands {
		if err == errEpoch {
			return sessile.ErrRenewed
		}
		return answer(err)
	}
	if limitErr := s.m.endOldest(ctx, l.user, l.next.ID); err == nil || limitErr == sessile.ErrEnded {
		err = limitErr
	}
	return err
}

// bind is what a login does to its session, inside the transaction.
func (l *login) bind(tx sessile.Txn) (err error) {
	if err := tx.SetUser(l.user); err != nil {
		return err
	}
	if err := beginAnew(tx); err != nil {
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
		switch txs[0].Epoch() {
		case l.old.Epoch:
		case 0: // it has ended, and this is a new one
			return sessile.ErrNotFound
		default:
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
