package sessionhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

var (
	ctx     = context.Background()
	counter = sessile.NewKey[int64]("n")
)

func increment(tx sessile.Txn) error {
	_, err := sessile.Add(tx, counter, 1)
	return err
}

func openEngine(t testing.TB, opt sessile.Options) *sessile.Engine {
	t.Helper()
	opt.InMemory = opt.Dir == ""
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// A site is a server with sessions.
type site struct {
	*httptest.Server
	t      *testing.T
	engine *sessile.Engine
	m      *sessionhttp.Manager
	mux    *http.ServeMux
}

func newSite(t *testing.T, opt sessionhttp.Options) *site {
	t.Helper()
	opt.Insecure = true
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, opt)
	require.NoError(t, err)
	s := &site{t: t, engine: e, m: m, mux: http.NewServeMux()}
	s.Server = httptest.NewServer(m.Handler(s.mux))
	t.Cleanup(s.Close)
	s.handle("/add", func(s *sessionhttp.Session, r *http.Request) error { return s.Update(r.Context(), increment) })
	s.handle("/ensure", func(s *sessionhttp.Session, r *http.Request) error { return s.Ensure(r.Context()) })
	s.handle("/restart", func(s *sessionhttp.Session, r *http.Request) error { return s.Restart(r.Context()) })
	s.handle("/login", func(s *sessionhttp.Session, r *http.Request) error {
		return s.Login(r.Context(), r.FormValue("user"), nil)
	})
	s.handle("/logout", func(s *sessionhttp.Session, r *http.Request) error { return s.Logout(r.Context()) })
	s.mux.HandleFunc("/n", func(w http.ResponseWriter, r *http.Request) {
		n, err := sessile.Read(r.Context(), sessionhttp.From(r), counter)
		reply(w, err, "%d", n)
	})
	s.mux.HandleFunc("/user", func(w http.ResponseWriter, r *http.Request) {
		user, err := sessionhttp.From(r).User(r.Context())
		reply(w, err, "%s", user)
	})
	return s
}

func reply(w http.ResponseWriter, err error, format string, a ...any) {
	if err != nil {
		http.Error(w, err.Error(), sessionhttp.Status(err))
		return
	}
	fmt.Fprintf(w, format, a...)
}

func (s *site) handle(path string, fn func(*sessionhttp.Session, *http.Request) error) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		reply(w, fn(sessionhttp.From(r), r), "ok")
	})
}

// A browser has a cookie jar.
type browser struct {
	s *site
	http.Client
}

func (s *site) browser() *browser {
	jar, err := cookiejar.New(nil)
	require.NoError(s.t, err)
	return &browser{s, http.Client{Jar: jar, Transport: s.Client().Transport}}
}

// get returns status and body.
func (b *browser) get(path string) (int, string) {
	res, err := b.Get(b.s.URL + path)
	require.NoError(b.s.t, err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	require.NoError(b.s.t, err)
	return res.StatusCode, strings.TrimSpace(string(body))
}

func (b *browser) ok(path string) string {
	b.s.t.Helper()
	code, body := b.get(path)
	require.Equal(b.s.t, http.StatusOK, code, body)
	return body
}

func (b *browser) token() string {
	u, err := url.Parse(b.s.URL)
	require.NoError(b.s.t, err)
	for _, c := range b.Jar.Cookies(u) {
		if c.Name == "id" {
			return c.Value
		}
	}
	return ""
}

// raw sends a Cookie header as it is.
func (s *site) raw(path, cookie string) *http.Response {
	req, err := http.NewRequest("GET", s.URL+path, nil)
	require.NoError(s.t, err)
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
	}
	res, err := s.Client().Do(req)
	require.NoError(s.t, err)
	res.Body.Close()
	return res
}

func (s *site) sessions() int64 { return s.engine.Stats().Sessions }
