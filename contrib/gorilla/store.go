package gorillastore

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/gorilla/securecookie"
	"github.com/gorilla/sessions"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/contrib/latesave"
)

var (
	// ErrGone is returned by Save when the session has ended since the request loaded it, or a newer login has replaced its
	// token. Nothing was applied, and no cookie was set.
	ErrGone = errors.New("gorillastore: session has ended")

	// ErrForeign is returned by Save for a session with an ID that this store did not give it. Nothing was applied.
	ErrForeign = errors.New("gorillastore: session was not loaded from this store")
)

// saveTimeout bounds a Save, which goes on when the request is cancelled.
const saveTimeout = 10 * time.Second

// A Store is a gorilla store on an engine. Its fields are set before it is used; it is safe for concurrent use. Close the
// engine after the HTTP server.
type Store struct {
	// Codecs sign, and with a block key encrypt, the token in the cookie.
	Codecs []securecookie.Codec

	// Options are those of new sessions.
	Options *sessions.Options

	// EndAtZero makes Save with Options.MaxAge == 0 end the session, as FilesystemStore does, and not only with MaxAge < 0.
	EndAtZero bool

	// OnDecodeError is asked when a value cannot be decoded. Its error is what Get returns; nil makes the value count as
	// absent, as it does without OnDecodeError. id is the session's in the engine.
	OnDecodeError func(id string, key any, err error) error

	engine *sessile.Engine
	loads  latesave.WeakMap[sessions.Session, *load]
}

// New makes a Store. Keys come in pairs, as for sessions.NewCookieStore: of each the first authenticates the cookie
// (32 or 64 bytes), the second, which may be nil, or absent at the end, encrypts it (16, 24 or 32 bytes). The first pair
// writes, all read.
func New(engine *sessile.Engine, keyPairs ...[]byte) (*Store, error) {
	if engine == nil {
		return nil, errors.New("gorillastore: no engine")
	}
	s := &Store{
		Codecs:  securecookie.CodecsFromPairs(keyPairs...),
		Options: &sessions.Options{Path: "/", Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode},
		engine:  engine,
	}
	// A key that is missing or of a wrong length shows on first use only.
	if _, err := securecookie.EncodeMulti("check", "", s.Codecs...); err != nil {
		return nil, err
	}
	s.MaxAge(30 * 24 * 60 * 60)
	return s, nil
}

// MaxAge sets the age, in seconds, of new sessions and the greatest that cookies may have.
func (s *Store) MaxAge(age int) {
	s.Options.MaxAge = age
	for _, codec := range s.Codecs {
		if sc, ok := codec.(*securecookie.SecureCookie); ok {
			sc.MaxAge(age)
		}
	}
}

// Get returns the request's session of the name, the same one each time.
func (s *Store) Get(r *http.Request, name string) (*sessions.Session, error) {
	return sessions.GetRegistry(r).Get(s, name)
}

// New returns the session that the request's cookie proves, loaded anew, or a new one. It is never nil. The error is about a
// cookie that could not be verified, a session that could not be read, or OnDecodeError's.
func (s *Store) New(r *http.Request, name string) (*sessions.Session, error) {
	session := sessions.NewSession(s, name)
	options := *s.Options
	session.Options = &options
	session.IsNew = true
	ld := newLoad()
	s.loads.Store(session, ld)
	c, err := r.Cookie(name)
	if err != nil {
		return session, nil
	}
	var token string
	if err := securecookie.DecodeMulti(name, c.Value, &token, s.Codecs...); err != nil {
		return session, err
	}
	return session, s.read(r.Context(), session, ld, token)
}

// read fills the session with what the token proves the right to.
func (s *Store) read(ctx context.Context, session *sessions.Session, ld *load, token string) error {
	grant, err := s.engine.Resolve(ctx, token)
	if err == nil {
		err = s.engine.View(ctx, grant.ID, func(tx sessile.Txn) error {
			if tx.Epoch() != grant.Epoch {
				return sessile.ErrRenewed
			}
			return ld.read(tx, session.Values, s.OnDecodeError)
		})
	}
	switch {
	case err == nil:
		ld.grant, ld.token = grant, token
		session.ID, session.IsNew = grant.ID, false
	case errors.Is(err, sessile.ErrRenewed):
		// A newer cookie is on its way to the browser, or there already, and must not be overwritten.
		ld.gone = true
		err = nil
	case errors.Is(err, sessile.ErrNoToken), errors.Is(err, sessile.ErrEnded), errors.Is(err, sessile.ErrNotFound):
		err = nil
	}
	if err != nil {
		clear(session.Values)
		*ld = *newLoad()
	}
	return err
}
