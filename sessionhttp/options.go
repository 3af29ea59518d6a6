package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// Never, as RenewAfter, keeps the token that the login made.
const Never time.Duration = -1

// Options configure a Manager. The zero value has secure defaults. New copies and validates them.
type Options struct {
	// CookieName is the cookie's name; by default "__Host-id", or "id" with Insecure. Browsers hold
	// cookies whose name begins with __Host- to this server alone, with Path=/ and Secure.
	CookieName string

	// Insecure leaves Secure off, for development over plain http. Never set it in production:
	// the token goes over the wire in the clear then.
	Insecure bool

	Domain   string        // none unless set: the cookie is for this host alone
	Path     string        // "/" unless set
	SameSite http.SameSite // http.SameSiteLaxMode unless set; None needs Secure

	// Partitioned keeps the cookie apart for each top-level site that embeds this one (CHIPS).
	Partitioned bool

	// BrowserSession makes cookies that the browser forgets when it closes, but for sessions marked
	// with [Remember]. Otherwise they last for CookieAge.
	BrowserSession bool

	// CookieAge is how long the browser keeps the cookie; 30 days unless set. How long the session lives is
	// the engine's IdleTimeout and Lifetime.
	CookieAge time.Duration

	// RenewAfter is how old a token may get before a request that uses the session gets a new one; 24 h
	// unless set, Never for none. The old one lives until the new one has arrived.
	RenewAfter time.Duration

	// AnonymousIdle is the idle timeout of sessions without a user; 2 h unless set. Their number is bounded by
	// the engine's MaxAnonymous. A transaction may set another one.
	AnonymousIdle time.Duration

	// MaxPerUser is how many sessions a user may have; 0 for no limit. A Login beyond it has ended the oldest when it returns, or, with
	// RefuseOverLimit, returns ErrTooManySessions. Of several Managers that log the same users in, each counts all
	// sessions, but only ending the oldest holds beside the others' logins.
	MaxPerUser      int
	RefuseOverLimit bool

	// ClearSiteData is the value of the header of that name with which Logout is answered, such
	// as `"cache", "storage"`; none unless set.
	ClearSiteData string

	// Timeout bounds what goes on when the request is cancelled: Login, renewal and the ends; 10 s unless set.
	Timeout time.Duration

	// OnEvent is called after each event, on the goroutine that caused it and with nothing locked.
	// Ends are told by the engine's Options.OnEnd, with their reason, whoever causes them.
	OnEvent func(Event)
}

// An Event is told to Options.OnEvent. No secret is in it.
type Event struct {
	Kind EventKind
	ID   string
	User string // "" for an anonymous session
}

// An EventKind says what happened.
type EventKind uint8

// The events.
const (
	Created  EventKind = iota + 1 // a session was made without a login
	LoggedIn                      // a session was bound to its user, anew or again
	Renewed                       // a session got a new token because the old one was old
)

// String returns "created", "logged in" or "renewed".
func (k EventKind) String() string {
	switch k {
	case Created:
		return "created"
	case LoggedIn:
		return "logged in"
	case Renewed:
		return "renewed"
	}
	return fmt.Sprintf("EventKind(%d)", uint8(k))
}

func (o Options) withDefaults() Options {
	if o.CookieName == "" {
		o.CookieName = "__Host-id"
		if o.Insecure {
			o.CookieName = "id"
		}
	}
	if o.Path == "" {
		o.Path = "/"
	}
	if o.SameSite == 0 {
		o.SameSite = http.SameSiteLaxMode
	}
	defaultTo := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	defaultTo(&o.CookieAge, 30*24*time.Hour)
	defaultTo(&o.RenewAfter, 24*time.Hour)
	defaultTo(&o.AnonymousIdle, 2*time.Hour)
	defaultTo(&o.Timeout, 10*time.Second)
	if o.OnEvent == nil {
		o.OnEvent = func(Event) {}
	}
	return o
}

// maxCookieAge is what browsers cap it at (RFC 6265bis, section 5.5).
const maxCookieAge = 400 * 24 * time.Hour

func (o Options) validate() error {
	bad := func(field, format string, a ...any) error {
		return fmt.Errorf("sessionhttp: Options.%s: %s", field, fmt.Sprintf(format, a...))
	}
	if err := o.template().Valid(); err != nil {
		return fmt.Errorf("sessionhttp: Options make no valid cookie: %w", err)
	}
	for _, c := range []byte(o.ClearSiteData) {
		if c < ' ' || c >= 0x7f {
			return bad("ClearSiteData", "byte %#x", c)
		}
	}
	lower := strings.ToLower(o.CookieName) // browsers compare prefixes without regard to case
	host := strings.HasPrefix(lower, "__host-") || strings.HasPrefix(lower, "__host-http-")
	switch {
	case o.Insecure && strings.HasPrefix(lower, "__"):
		return bad("CookieName", "%q needs Secure, which Insecure leaves off", o.CookieName)
	case host && o.Domain != "":
		return bad("Domain", "must be empty with the cookie name %q", o.CookieName)
	case host && o.Path != "/":
		return bad("Path", "must be / with the cookie name %q", o.CookieName)
	case o.SameSite < http.SameSiteDefaultMode || o.SameSite > http.SameSiteNoneMode:
		return bad("SameSite", "unknown mode %d", o.SameSite)
	case o.SameSite == http.SameSiteNoneMode && o.Insecure:
		return bad("SameSite", "None needs Secure, which Insecure leaves off")
	case o.CookieAge < time.Second || o.CookieAge > maxCookieAge:
		return bad("CookieAge", "%v is not between 1s and 400 days", o.CookieAge)
	case o.RenewAfter < 0 && o.RenewAfter != Never:
		return bad("RenewAfter", "%v is negative", o.RenewAfter)
	case o.AnonymousIdle < 0:
		return bad("AnonymousIdle", "%v is negative", o.AnonymousIdle)
	case o.Timeout < 0:
		return bad("Timeout", "%v is negative", o.Timeout)
	case o.MaxPerUser < 0:
		return bad("MaxPerUser", "%d is negative", o.MaxPerUser)
	case o.RefuseOverLimit && o.MaxPerUser == 0:
		return errors.New("sessionhttp: Options.RefuseOverLimit needs MaxPerUser")
	}
	return nil
}

// template is the cookie without its value.
func (o Options) template() *http.Cookie {
	return &http.Cookie{
		Name: o.CookieName, Value: "x", Path: o.Path, Domain: o.Domain, Secure: !o.Insecure, HttpOnly: true,
		SameSite: o.SameSite, Partitioned: o.Partitioned,
	}
}
