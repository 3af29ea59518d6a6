package sessionhttp

import (
	"errors"
	"net/http"

	"github.com/sessile-go/sessile"
)

var (
	// ErrHeadersSent is returned by what would need a cookie (the first Update, Ensure, Restart, Login) when the
	// response's header has gone out or the handler has returned. Nothing was changed.
	ErrHeadersSent = errors.New("sessionhttp: header has been sent, no cookie can be set")

	// ErrNoHandler is returned by the session of a request that did not come through [Manager.Handler].
	ErrNoHandler = errors.New("sessionhttp: request has no session: it did not pass Manager.Handler")

	// ErrTooManySessions is returned by Login when the user has [Options.MaxPerUser] sessions
	// and [Options.RefuseOverLimit] is set. Nothing was changed.
	ErrTooManySessions = errors.New("sessionhttp: user has too many sessions")

	// ErrNotSignedIn is returned by EndOther, EndOthers and Others on a session without a user.
	ErrNotSignedIn = errors.New("sessionhttp: not signed in")
)

// Status returns the HTTP status that fits an error of this package or of the engine: 401
// when the token proves nothing (any more) or the session has ended, 503 when trying again helps, 409
// for ErrTooManySessions, 413 for sessile.ErrTooLarge, 404 for sessile.ErrNotFound (of EndOther), 400 for sessile.ErrInvalidID
// (a user's name, an id), 200 for nil, and 500.
func Status(err error) int {
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	switch {
	case err == nil:
		return http.StatusOK
	case is(sessile.ErrRenewed, sessile.ErrEnded, sessile.ErrNoToken, ErrNotSignedIn):
		return http.StatusUnauthorized
	case is(sessile.ErrBusy, sessile.ErrDiskFull, sessile.ErrClosed, sessile.ErrTooMany, sessile.ErrPersistence):
		return http.StatusServiceUnavailable
	case is(ErrTooManySessions):
		return http.StatusConflict
	case is(sessile.ErrTooLarge):
		return http.StatusRequestEntityTooLarge
	case is(sessile.ErrNotFound):
		return http.StatusNotFound
	case is(sessile.ErrInvalidID):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}
