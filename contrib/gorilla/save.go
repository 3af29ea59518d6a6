package gorillastore

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/contrib/latesave"
)

// Save applies what was changed since the session was loaded, or last saved, and sets its cookie. Like gorilla's own stores it makes the
// session if there is none, and is called before the header goes out. It goes on when the request is cancelled.
//
// It returns [ErrGone], [ErrForeign], and the engine's errors, such as sessile.ErrTooLarge. Only with
// sessile.ErrDurabilityUnknown, when a session ends or its ID was set to "", was anything changed.
func (s *Store) Save(r *http.Request, w http.ResponseWriter, session *sessions.Session) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), saveTimeout)
	defer cancel()
	ld := s.loads.Load(session)
	if ld == nil {
		// Made by sessions.NewSession.
		ld = newLoad()
		s.loads.Store(session, ld)
	}
	if session.ID != "" && session.ID != ld.grant.ID {
		return fmt.Errorf("%w: ID %q", ErrForeign, session.ID)
	}
	if session.Options == nil {
		options := *s.Options
		session.Options = &options
	}
	if age := session.Options.MaxAge; age < 0 || age == 0 && s.EndAtZero {
		return s.end(ctx, w, session, ld)
	}
	if ld.gone && session.ID == "" && ld.grant.ID != "" {
		// This request has ended the session and wants another one.
		*ld = *newLoad()
	}
	if ld.gone {
		return ErrGone
	}
	if err := s.save(ctx, session, ld); err != nil {
		return err
	}
	return s.setCookie(w, session, ld.token)
}

func (s *Store) setCookie(w http.ResponseWriter, session *sessions.Session, token string) error {
	value, err := securecookie.EncodeMulti(session.Name(), token, s.Codecs...)
	if err != nil {
		return err
	}
	http.SetCookie(w, sessions.NewCookie(session.Name(), value, session.Options))
	return nil
}

// end ends the session, if the request still has the right to it, and the browser's cookie.
func (s *Store) end(ctx context.Context, w http.ResponseWriter, session *sessions.Session, ld *load) error {
	if ld.gone && ld.grant.ID == "" {
		return ErrGone // the cookie to be ended is not the one that the request came with
	}
	if ld.grant.ID != "" {
		err := s.engine.View(ctx, ld.grant.ID, func(tx sessile.Txn) error { return ld.check(tx) })
		if errors.Is(err, ErrGone) {
			return err // replaced by a newer login, whose session goes on
		}
		// Whatever else View says: the token was good a moment ago. Delete waits for nobody.
		ld.gone = true
		if err := s.engine.Delete(ctx, ld.grant.ID); err != nil {
			return err
		}
	}
	ended := *session.Options
	ended.MaxAge = -1
	http.SetCookie(w, sessions.NewCookie(session.Name(), "", &ended))
	return nil
}

// check refuses a session whose token a newer login has replaced.
func (ld *load) check(tx sessile.Txn) error {
	if tx.Epoch() != ld.grant.Epoch {
		return ErrGone
	}
	return nil
}

// save applies the changes, and makes a token if there is none yet or a new one is asked for.
func (s *Store) save(ctx context.Context, session *sessions.Session, ld *load) error {
	var keyErr error
	changes, err := ld.known.Diff(ld.fields(session.Values, &keyErr))
	if err = errors.Join(keyErr, err); err != nil {
		return fmt.Errorf("gorillastore: %w", err)
	}
	id, grant, token := ld.grant.ID, ld.grant, ld.token
	commit := func(tx sessile.Txn) error {
		if err := apply(tx, changes, session.Options.MaxAge); err != nil {
			return err
		}
		if session.ID != "" {
			return nil
		}
		var err error
		token, err = tx.NewToken(sessile.TokenLogin)
		grant.Epoch = tx.Epoch()
		return err
	}
	if id == "" {
		id, err = s.engine.Create(ctx, commit)
	} else {
		err = s.engine.Update(ctx, id, func(tx sessile.Txn) error {
			if err := ld.check(tx); err != nil {
				return err
			}
			if session.ID == "" {
				tx.Durable()
			}
			return commit(tx)
		})
	}
	if errors.Is(err, sessile.ErrNotFound) {
		return ErrGone
	}
	if err == nil || errors.Is(err, sessile.ErrDurabilityUnknown) {
		grant.ID = id
		ld.grant, ld.token, ld.known = grant, token, changes.After
		session.ID = id
	}
	return err
}

// keyAge is the MaxAge that the session's idle timeout was made from, so that a Save without changes writes nothing.
var keyAge = sessile.NewKey[int]("\x00gorilla.age")

func apply(tx sessile.Txn, changes *latesave.Changes, age int) error {
	if err := changes.Apply(tx); err != nil {
		return fmt.Errorf("gorillastore: %w", err)
	}
	old, ok, err := keyAge.Lookup(tx)
	if err == nil && ok && old == age {
		return nil
	}
	if err := keyAge.Set(tx, age); err != nil {
		return err
	}
	return tx.SetIdleTimeout(time.Duration(age) * time.Second) // 0: the engine's
}
