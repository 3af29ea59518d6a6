package sessionhttp_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func TestCookie(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	for _, test := range []struct {
		opt  sessionhttp.Options
		want string
	}{
		{sessionhttp.Options{}, "__Host-id=*; Path=/; Max-Age=2592000; HttpOnly; Secure; SameSite=Lax"},
		{sessionhttp.Options{Insecure: true, BrowserSession: true}, "id=*; Path=/; HttpOnly; SameSite=Lax"},
		{sessionhttp.Options{CookieName: "a", Path: "/app", Domain: "example.com", CookieAge: time.Minute, SameSite: http.SameSiteNoneMode, Partitioned: true},
			"a=*; Path=/app; Domain=example.com; Max-Age=60; HttpOnly; Secure; SameSite=None; Partitioned"},
	} {
		m, err := sessionhttp.New(e, test.opt)
		require.NoError(t, err)
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			require.NoError(t, sessionhttp.From(r).Ensure(r.Context()))
			w.Header().Set("Cache-Control", "public")
			w.WriteHeader(http.StatusEarlyHints)
			require.Empty(t, w.Header()["Set-Cookie"], "that was not the header")
			w.WriteHeader(http.StatusTeapot)
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
		require.Len(t, w.Header()["Set-Cookie"], 1)
		got := w.Header().Get("Set-Cookie")
		name, rest, _ := strings.Cut(got, "=")
		_, attributes, _ := strings.Cut(rest, ";")
		require.Equal(t, test.want, name+"=*;"+attributes)
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
}

func TestRemember(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{BrowserSession: true})
	require.NoError(t, err)
	c, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	require.Zero(t, c.MaxAge)
	c, err = m.Issue(ctx, "ann", func(tx sessile.Txn) error { return sessionhttp.Remember(tx, 20*24*time.Hour) })
	require.NoError(t, err)
	require.Equal(t, 30*24*3600, c.MaxAge)
	g, err := e.Resolve(ctx, c.Value)
	require.NoError(t, err)
	require.NoError(t, e.View(ctx, g.ID, func(tx sessile.Txn) error {
		require.Greater(t, time.Until(tx.Info().Expires), 19*24*time.Hour)
		return nil
	}))
}

func TestOptions(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	for want, opt := range map[string]sessionhttp.Options{
		"cookie":          {CookieName: "a b"},
		"CookieName":      {CookieName: "__Secure-a", Insecure: true},
		"Domain":          {Domain: "example.com"},
		"Path":            {Path: "/app"},
		"SameSite":        {SameSite: http.SameSiteNoneMode, Insecure: true},
		"partitioned":     {Partitioned: true, Insecure: true},
		"CookieAge":       {CookieAge: 500 * 24 * time.Hour},
		"RenewAfter":      {RenewAfter: -5},
		"AnonymousIdle":   {AnonymousIdle: -1},
		"Timeout":         {Timeout: -1},
		"MaxPerUser":      {MaxPerUser: -1},
		"RefuseOverLimit": {RefuseOverLimit: true},
		"ClearSiteData":   {ClearSiteData: "a\r\nb"},
		"unknown mode":    {SameSite: 17},
		"Cookie.Path":     {CookieName: "a", Path: "/a;b"},
		"Cookie.Domain":   {CookieName: "a", Domain: "a_b"},
		"__HOST-a":        {CookieName: "__HOST-a", Domain: "example.com"},
		"between":         {CookieAge: time.Millisecond},
	} {
		_, err := sessionhttp.New(e, opt)
		require.ErrorContains(t, err, want)
	}
	_, err := sessionhttp.New(nil, sessionhttp.Options{})
	require.Error(t, err)
}

func TestBadTokens(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	b := s.browser()
	b.ok("/add")
	anonymous := b.token()
	b.ok("/login?user=ann")
	good := b.token()
	other := s.browser()
	other.ok("/login?user=bob")
	ended := other.token()
	other.ok("/logout")
	id, secret, _ := strings.Cut(good, ".")
	require.NoError(t, s.engine.CreateID(ctx, "chosen", nil))
	n := s.sessions()
	for _, cookie := range []string{
		"id=" + anonymous, // retired
		"id=" + ended,
		"id=garbage",
		"id=",
		"id",
		"id=chosen",
		"id=chosen." + secret,
		"id=" + id,
		"id=" + id + "." + strings.Repeat("A", 43),
		`id="` + good + `"`,
		"id=" + good + "; id=" + good,
		"id=" + good + "; a=b; id=garbage",
		"id=garbage;id=" + good,
		"id =" + good + "; id=x",
	} {
		for _, path := range []string{"/n", "/user", "/add", "/ensure"} {
			res := s.raw(path, cookie)
			require.Equal(t, http.StatusUnauthorized, res.StatusCode, "%s with %s", path, cookie)
			require.Empty(t, res.Header["Set-Cookie"], "%s with %s", path, cookie)
		}
		require.Empty(t, s.raw("/logout", cookie).Header["Set-Cookie"], cookie)
		require.Equal(t, n, s.sessions(), cookie)
	}
	require.Equal(t, http.StatusOK, s.raw("/user", "a=b;id="+good+";c=d").StatusCode)
	require.Equal(t, http.StatusOK, s.raw("/user", "ID=x; xid=y; id2=z; id="+good).StatusCode)

	// A person's page and a login go on with a dead one, but not with one that was renewed.
	require.Len(t, s.raw("/restart", "id="+ended).Header["Set-Cookie"], 1)
	require.Len(t, s.raw("/restart", "id=garbage").Header["Set-Cookie"], 1)
	require.Len(t, s.raw("/login?user=bob", "id="+ended).Header["Set-Cookie"], 1)
	require.Empty(t, s.raw("/restart", "id="+anonymous).Header["Set-Cookie"])
	require.Equal(t, http.StatusUnauthorized, s.raw("/login?user=eve", "id="+anonymous).StatusCode)
	require.Equal(t, "ann", b.ok("/user"))
}

// A cookie is set when a session is made, at a login, at a renewal and at a logout, and at nothing else: not to slide its age.
func TestSetCookieOnlyWhenNew(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	type handler = func(*sessionhttp.Session, *http.Request) error
	for path, fn := range map[string]handler{
		"/view":   func(s *sessionhttp.Session, r *http.Request) error { return s.View(r.Context(), nil) },
		"/update": func(s *sessionhttp.Session, r *http.Request) error { return s.Update(r.Context(), increment) },
		"/flash": func(s *sessionhttp.Session, r *http.Request) error {
			return s.Update(r.Context(), func(tx sessile.Txn) error { return sessionhttp.AddFlash(tx, sessionhttp.Flash{Text: "a"}) })
		},
		"/endother":  func(s *sessionhttp.Session, r *http.Request) error { _ = s.EndOther(r.Context(), "x"); return nil },
		"/endothers": func(s *sessionhttp.Session, r *http.Request) error { _, err := s.EndOthers(r.Context()); return err },
		"/wait":      func(s *sessionhttp.Session, r *http.Request) error { _, err := s.Wait(r.Context(), 0); return err },
		"/loginfails": func(s *sessionhttp.Session, r *http.Request) error {
			err := s.Login(r.Context(), "ann", func(sessile.Txn) error { return io.ErrUnexpectedEOF })
			require.ErrorIs(t, err, io.ErrUnexpectedEOF)
			return nil
		},
	} {
		s.handle(path, fn)
	}
	sets := func(path, token string) (next string, n int) {
		res := s.raw(path, token)
		require.Equal(t, http.StatusOK, res.StatusCode, path)
		if c := res.Cookies(); len(c) > 0 {
			require.Equal(t, "no-store", res.Header.Get("Cache-Control"), path)
			return "id=" + c[0].Value, len(c)
		}
		require.Empty(t, res.Header.Get("Cache-Control"), path)
		return token, 0
	}
	token, n := sets("/add", "")
	require.Equal(t, 1, n, "creation")
	token, n = sets("/login?user=ann", token)
	require.Equal(t, 1, n, "login")
	for _, path := range []string{"/view", "/update", "/flash", "/endother", "/endothers", "/wait", "/loginfails", "/ensure", "/restart", "/n", "/user"} {
		_, n = sets(path, token)
		require.Zero(t, n, path)
	}
	_, n = sets("/logout", token)
	require.Equal(t, 1, n, "logout")
}

// What cannot be a token is refused before any lock or disk: also when there is no engine any more.
func TestBadTokensReachNothing(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	require.NoError(t, e.Close())
	well := "__Host-id=a." + strings.Repeat("A", 43)
	for _, headers := range [][]string{
		{"__Host-id=garbage"}, {"__Host-id"}, {`__Host-id="a.` + strings.Repeat("A", 43) + `"`}, {well + "; " + well}, {well, well}, {well, "__Host-id="},
		{"__Host-id=" + strings.Repeat("a", 300) + "." + strings.Repeat("A", 43)}, {"__Host-id=." + strings.Repeat("A", 43)},
	} {
		s, err := m.Open(ctx, headers, nil)
		require.NoError(t, err, headers)
		require.ErrorIs(t, s.Update(ctx, increment), sessile.ErrNoToken, headers)
	}
	_, err = m.Open(ctx, []string{well}, nil)
	require.ErrorIs(t, err, sessile.ErrClosed)
}

// Two Managers, each with a cookie of its own, around one handler.
func TestTwoManagers(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	users, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	flows, err := sessionhttp.New(e, sessionhttp.Options{CookieName: "__Host-flow", SameSite: http.SameSiteNoneMode})
	require.NoError(t, err)
	other, err := sessionhttp.New(e, sessionhttp.Options{CookieName: "other"})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	users.Handler(flows.Handler(users.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Same(t, flows.From(r), sessionhttp.From(r), "the innermost")
		require.NoError(t, users.From(r).Login(r.Context(), "ann", nil))
		require.NoError(t, flows.From(r).Update(r.Context(), increment))
		user, err := users.From(r).User(r.Context())
		require.NoError(t, err)
		require.Equal(t, "ann", user)
		user, err = flows.From(r).User(r.Context())
		require.NoError(t, err)
		require.Empty(t, user)
		require.ErrorIs(t, other.From(r).View(r.Context(), nil), sessionhttp.ErrNoHandler)
	})))).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	var names []string
	for _, c := range w.Result().Cookies() {
		names = append(names, c.Name)
	}
	require.ElementsMatch(t, []string{"__Host-id", "__Host-flow"}, names)
	require.EqualValues(t, 2, e.Stats().Sessions)
}

func TestStatus(t *testing.T) {
	for err, want := range map[error]int{
		nil: 200, sessile.ErrRenewed: 401, sessile.ErrEnded: 401, sessile.ErrNoToken: 401, sessionhttp.ErrNotSignedIn: 401,
		sessile.ErrBusy: 503, sessile.ErrDiskFull: 503, sessile.ErrClosed: 503, sessile.ErrTooMany: 503, sessile.ErrPersistence: 503,
		sessionhttp.ErrTooManySessions: 409, sessile.ErrTooLarge: 413, sessile.ErrNotFound: 404, sessile.ErrInvalidID: 400,
		sessionhttp.ErrHeadersSent: 500, sessionhttp.ErrNoHandler: 500, io.EOF: 500, fmt.Errorf("a: %w", sessile.ErrEnded): 401,
	} {
		require.Equal(t, want, sessionhttp.Status(err), "%v", err)
	}
}
