package sessionhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

func TestLazily(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.handle("/nothing", func(s *sessionhttp.Session, r *http.Request) error {
		return s.Update(r.Context(), func(tx sessile.Txn) error { return tx.Delete("absent") })
	})
	s.handle("/fails", func(s *sessionhttp.Session, r *http.Request) error {
		return s.Update(r.Context(), func(tx sessile.Txn) error {
			require.NoError(t, increment(tx))
			return io.ErrUnexpectedEOF
		})
	})
	b := s.browser()
	require.Equal(t, "0", b.ok("/n"))
	require.Equal(t, "", b.ok("/user"))
	b.ok("/nothing")
	code, _ := b.get("/fails")
	require.Equal(t, http.StatusInternalServerError, code)
	b.ok("/logout")
	require.Empty(t, b.token())
	require.Zero(t, s.sessions(), "no record until something is written")
	b.ok("/add")
	require.NotEmpty(t, b.token())
	require.Equal(t, "1", b.ok("/n"))
	require.EqualValues(t, 1, s.sessions())
	before := b.token()
	b.ok("/add")
	b.ok("/ensure")
	b.ok("/restart")
	require.Equal(t, before, b.token(), "no cookie is sent again")
	require.Equal(t, "2", b.ok("/n"))
}

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
	} {
		_, err := sessionhttp.New(e, opt)
		require.ErrorContains(t, err, want)
	}
	_, err := sessionhttp.New(nil, sessionhttp.Options{})
	require.Error(t, err)
}

// 16 clients on one cookie, with work before each Update.
func TestNothingIsLost(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	const work = 5 * time.Millisecond
	s.handle("/slow", func(s *sessionhttp.Session, r *http.Request) error {
		time.Sleep(work)
		return s.Update(r.Context(), increment)
	})
	s.handle("/key", func(s *sessionhttp.Session, r *http.Request) error {
		time.Sleep(work)
		return s.Update(r.Context(), func(tx sessile.Txn) error { return tx.Set("key"+r.FormValue("key"), []byte("v")) })
	})
	b := s.browser()
	b.ok("/ensure")
	clients := func(n int, path func(i int) string) {
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
					code, body := b.get(path(i))
					if code != http.StatusOK {
						t.Error(code, body)
					}
				}
			})
		}
		wg.Wait()
	}
	clients(500, func(int) string { return "/slow" })
	require.Equal(t, "500", b.ok("/n"))
	clients(200, func(i int) string { return fmt.Sprint("/key?key=", i) })
	g, err := s.engine.Resolve(ctx, b.token())
	require.NoError(t, err)
	require.NoError(t, s.engine.View(ctx, g.ID, func(tx sessile.Txn) error {
		require.Equal(t, 201, tx.Len())
		return nil
	}))
}

// A request that began before a logout and goes on after it brings nothing back.
func TestLogoutIsFinal(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	var arrived, goOn chan struct{}
	s.handle("/late", func(s *sessionhttp.Session, r *http.Request) error {
		err := s.View(r.Context(), nil)
		close(arrived)
		<-goOn
		if err != nil {
			return err
		}
		return s.Update(r.Context(), increment)
	})
	for range 200 {
		b := s.browser()
		b.ok("/login?user=ann")
		old := "id=" + b.token()
		arrived, goOn = make(chan struct{}), make(chan struct{})
		late := make(chan *http.Response)
		go func() { late <- s.raw("/late", old) }()
		<-arrived
		b.ok("/logout")
		require.Empty(t, b.token())
		close(goOn)
		res := <-late
		require.Equal(t, http.StatusUnauthorized, res.StatusCode)
		require.Empty(t, res.Header["Set-Cookie"])
		require.Equal(t, http.StatusUnauthorized, s.raw("/user", old).StatusCode)
		require.Zero(t, s.sessions())
	}
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

func TestLogin(t *testing.T) {
	var events []string
	s := newSite(t, sessionhttp.Options{OnEvent: func(e sessionhttp.Event) { events = append(events, e.Kind.String()+" "+e.User) }})
	b := s.browser()
	b.ok("/add")
	anonymous := b.token()
	b.ok("/login?user=ann")
	require.NotEqual(t, anonymous, b.token())
	require.Equal(t, "1", b.ok("/n"), "the cart comes along")
	require.Equal(t, "ann", b.ok("/user"))
	first := b.token()
	b.ok("/login?user=ann")
	require.Equal(t, "1", b.ok("/n"))
	require.Equal(t, http.StatusUnauthorized, s.raw("/n", "id="+first).StatusCode)
	b.ok("/login?user=bob")
	require.Equal(t, "0", b.ok("/n"), "what was ann's stays ann's")
	require.Equal(t, "bob", b.ok("/user"))
	require.EqualValues(t, 1, s.sessions())
	code, _ := b.get("/login?user=")
	require.Equal(t, http.StatusInternalServerError, code)
	require.Equal(t, []string{"created ", "logged in ann", "logged in ann", "logged in bob"}, events)
}

// Overlapping logins and updates on one session: each is applied or refused, and one token is left.
func TestOverlappingLogins(t *testing.T) {
	for _, users := range [][]string{{"ann"}, {"ann", "bob"}} {
		s := newSite(t, sessionhttp.Options{})
		for range 30 {
			b := s.browser()
			b.ok("/login?user=" + users[0])
			token := "id=" + b.token()
			id, _, _ := strings.Cut(b.token(), ".")
			applied := atomic.Int64{}
			var mu sync.Mutex
			var tokens []string
			var wg sync.WaitGroup
			for i := range 8 {
				wg.Go(func() {
					if i%2 == 0 {
						for range 5 {
							if s.raw("/add", token).StatusCode == http.StatusOK {
								applied.Add(1)
							}
						}
						return
					}
					res := s.raw("/login?user="+users[i/2%len(users)], token)
					if res.StatusCode != http.StatusOK {
						require.Empty(t, res.Header["Set-Cookie"])
						return
					}
					mu.Lock()
					defer mu.Unlock()
					tokens = append(tokens, res.Cookies()[0].Value)
				})
			}
			wg.Wait()
			require.Len(t, tokens, 1, "one login wins")
			g, err := s.engine.Resolve(ctx, tokens[0])
			require.NoError(t, err)
			require.Equal(t, http.StatusUnauthorized, s.raw("/add", token).StatusCode)
			if g.ID == id {
				n, err := sessile.Read(ctx, s.engine.Session(id), counter)
				require.NoError(t, err)
				require.Equal(t, applied.Load(), n)
			}
			require.NoError(t, s.engine.Delete(ctx, g.ID))
			require.Zero(t, s.sessions())
		}
	}
}

// An attacker has planted a token and holds a stream open; the victim's login cuts it off.
func TestStreamEndsWithLogin(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		done := session.Done()
		require.NoError(t, http.NewResponseController(w).Flush())
		<-done
		err := session.View(context.WithoutCancel(r.Context()), nil)
		fmt.Fprint(w, err)
	})
	stream := func(cookie string) io.ReadCloser {
		req, err := http.NewRequest("GET", s.URL+"/stream", nil)
		require.NoError(t, err)
		req.Header.Set("Cookie", cookie)
		res, err := s.Client().Do(req)
		require.NoError(t, err)
		return res.Body
	}
	all := func(r io.ReadCloser) string {
		b, err := io.ReadAll(r)
		require.NoError(t, err)
		require.NoError(t, r.Close())
		return string(b)
	}
	b := s.browser()
	b.ok("/add")
	planted := stream("id=" + b.token())
	b.ok("/add") // ends nothing
	b.ok("/login?user=victim")
	require.Equal(t, sessile.ErrRenewed.Error(), all(planted))
	own := stream("id=" + b.token())
	b.ok("/logout")
	require.Equal(t, sessile.ErrEnded.Error(), all(own))
	require.Equal(t, sessile.ErrNoToken.Error(), all(stream("id=garbage")))
}

func TestHeadersSent(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	for name, send := range map[string]func(http.ResponseWriter){
		"header": func(w http.ResponseWriter) { w.WriteHeader(http.StatusOK) },
		"body":   func(w http.ResponseWriter) { _, _ = io.WriteString(w, "hello") },
		"flush":  func(w http.ResponseWriter) { w.(http.Flusher).Flush() },
		"copy":   func(w http.ResponseWriter) { _, _ = w.(io.ReaderFrom).ReadFrom(strings.NewReader("hello")) },
	} {
		s.mux.HandleFunc("/sent/"+name, func(w http.ResponseWriter, r *http.Request) {
			session := sessionhttp.From(r)
			send(w)
			called := false
			fn := func(sessile.Txn) error { called = true; return nil }
			require.ErrorIs(t, session.Update(r.Context(), fn), sessionhttp.ErrHeadersSent)
			require.ErrorIs(t, session.Ensure(r.Context()), sessionhttp.ErrHeadersSent)
			require.ErrorIs(t, session.Login(r.Context(), "ann", fn), sessionhttp.ErrHeadersSent)
			require.False(t, called)
			require.NoError(t, session.View(r.Context(), nil))
		})
		s.raw("/sent/"+name, "")
		require.Zero(t, s.sessions(), name)
	}
	s.mux.HandleFunc("/inside", func(w http.ResponseWriter, r *http.Request) {
		require.ErrorIs(t, sessionhttp.From(r).Update(r.Context(), func(tx sessile.Txn) error {
			_, _ = io.WriteString(w, "hello")
			return increment(tx)
		}), sessionhttp.ErrHeadersSent)
	})
	s.raw("/inside", "")
	require.Zero(t, s.sessions())

	// With a session, only a login needs the header; a logout does not.
	s.mux.HandleFunc("/late", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		w.WriteHeader(http.StatusOK)
		require.NoError(t, session.Update(r.Context(), increment))
		require.ErrorIs(t, session.Login(r.Context(), "ann", nil), sessionhttp.ErrHeadersSent)
		require.NoError(t, session.Update(r.Context(), increment))
		require.NoError(t, session.Logout(r.Context()))
		require.ErrorIs(t, session.Update(r.Context(), increment), sessile.ErrEnded)
	})
	b := s.browser()
	b.ok("/add")
	b.ok("/late")
	require.Zero(t, s.sessions())

	// After the handler has returned, too.
	left := make(chan *sessionhttp.Session, 1)
	s.mux.HandleFunc("/leave", func(w http.ResponseWriter, r *http.Request) { left <- sessionhttp.From(r) })
	s.raw("/leave", "")
	require.ErrorIs(t, (<-left).Update(ctx, increment), sessionhttp.ErrHeadersSent)
}

// A panic of the handler is not swallowed, and the cookie of what was committed is there for whoever
// answers it.
func TestPanic(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	require.PanicsWithValue(t, "oops", func() {
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := sessionhttp.From(r)
			require.PanicsWithValue(t, "inner", func() {
				_ = s.Update(r.Context(), func(tx sessile.Txn) error { panic("inner") })
			})
			require.NoError(t, s.Update(r.Context(), increment))
			panic("oops")
		})).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	})
	require.Len(t, w.Header()["Set-Cookie"], 1)
	require.EqualValues(t, 1, e.Stats().Sessions)
}

// Two goroutines of a handler make, renew and write at once.
func TestTwoGoroutines(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			e := openEngine(t, sessile.Options{})
			m, err := sessionhttp.New(e, sessionhttp.Options{RenewAfter: time.Nanosecond})
			require.NoError(t, err)
			var made, refused atomic.Int64
			srv := httptest.NewUnstartedServer(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s := sessionhttp.From(r)
				var wg sync.WaitGroup
				for _, fn := range []func() error{
					func() error { return s.Update(r.Context(), increment) },
					func() error { return s.Update(r.Context(), increment) },
					func() error { return s.Login(r.Context(), "ann", nil) },
				} {
					wg.Go(func() {
						switch err := fn(); {
						case err == nil:
							made.Add(1)
						case errors.Is(err, sessionhttp.ErrHeadersSent), errors.Is(err, sessile.ErrRenewed):
							refused.Add(1)
						default:
							t.Error(err)
						}
					})
				}
				wg.Go(func() {
					for range rand.Intn(100) {
						runtime.Gosched()
					}
					_, err := io.WriteString(w, "hello")
					require.NoError(t, err)
					w.(http.Flusher).Flush()
				})
				wg.Wait()
			})))
			srv.EnableHTTP2 = proto == "HTTP/2.0"
			srv.StartTLS()
			defer srv.Close()
			for i := range 300 {
				jar, err := cookiejar.New(nil)
				require.NoError(t, err)
				client := http.Client{Jar: jar, Transport: srv.Client().Transport}
				for range 1 + i%3 {
					res, err := client.Get(srv.URL)
					require.NoError(t, err)
					require.Equal(t, proto, res.Proto)
					_, err = io.Copy(io.Discard, res.Body)
					require.NoError(t, err)
					require.NoError(t, res.Body.Close())
					require.LessOrEqual(t, len(res.Header["Set-Cookie"]), 1)
					if c := res.Cookies(); len(c) > 0 {
						_, err := e.Resolve(ctx, c[0].Value)
						require.NoError(t, err, "a cookie that was sent is good")
					}
				}
			}
			require.NotZero(t, made.Load())
			require.NotZero(t, refused.Load())
		})
	}
}

func TestRenewal(t *testing.T) {
	s := newSite(t, sessionhttp.Options{RenewAfter: 20 * time.Millisecond})
	b := s.browser()
	b.ok("/login?user=ann")
	first := b.token()
	require.Eventually(t, func() bool { b.ok("/user"); return b.token() != first }, 10*time.Second, time.Millisecond)
	require.Equal(t, http.StatusOK, s.raw("/n", "id="+first).StatusCode, "the old one lives until the new one is known to have arrived")
	second := b.token()
	b.ok("/add")
	require.Eventually(t, func() bool { b.ok("/add"); return b.token() != second }, 10*time.Second, time.Millisecond)
}

func TestMaxPerUser(t *testing.T) {
	s := newSite(t, sessionhttp.Options{MaxPerUser: 2})
	var all []*browser
	for range 5 {
		b := s.browser()
		if code, _ := b.get("/login?user=ann"); code == http.StatusOK { // of two in one tick of the clock, the second may have to go
			all = append(all, b)
		}
		require.LessOrEqual(t, s.sessions(), int64(2))
	}
	require.EqualValues(t, 2, s.sessions())
	alive := 0
	for _, b := range all {
		if code, _ := b.get("/user"); code == http.StatusOK {
			alive++
		}
	}
	require.Equal(t, 2, alive)

	s = newSite(t, sessionhttp.Options{MaxPerUser: 2, RefuseOverLimit: true})
	var ok atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			switch code, _ := s.browser().get("/login?user=ann"); code {
			case http.StatusOK:
				ok.Add(1)
			case http.StatusConflict:
			default:
				t.Error(code)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 2, ok.Load())
	require.EqualValues(t, 2, s.sessions())
}

func TestOthers(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.mux.HandleFunc("/others", func(w http.ResponseWriter, r *http.Request) {
		n := 0
		for _, err := range sessionhttp.From(r).Others(r.Context()) {
			if err != nil {
				reply(w, err, "")
				return
			}
			n++
		}
		fmt.Fprint(w, n)
	})
	s.handle("/end", func(s *sessionhttp.Session, r *http.Request) error { return s.EndOther(r.Context(), r.FormValue("id")) })
	s.mux.HandleFunc("/endall", func(w http.ResponseWriter, r *http.Request) {
		n, err := sessionhttp.From(r).EndOthers(r.Context())
		reply(w, err, "%d", n)
	})
	login := func(user string) (*browser, string) {
		b := s.browser()
		b.ok("/login?user=" + user)
		id, _, _ := strings.Cut(b.token(), ".")
		return b, id
	}
	a, idA := login("ann")
	b, idB := login("ann")
	c, idC := login("bob")
	_, _ = login("ann")
	require.Equal(t, "2", a.ok("/others"))
	for _, id := range []string{idC, idA, "unknown", ""} {
		code, _ := a.get("/end?id=" + id)
		require.NotEqual(t, http.StatusOK, code)
	}
	a.ok("/end?id=" + idB)
	code, _ := b.get("/user")
	require.Equal(t, http.StatusUnauthorized, code)
	require.Equal(t, "1", a.ok("/endall"))
	require.Equal(t, "0", a.ok("/others"))
	require.Equal(t, "bob", c.ok("/user"))
	d := s.browser()
	d.ok("/add")
	for _, path := range []string{"/others", "/endall", "/end?id=" + idA} {
		code, _ := d.get(path)
		require.Equal(t, http.StatusUnauthorized, code)
	}
	require.Equal(t, "ann", a.ok("/user"))
}

// One touch for a request, and none for one that polls.
func TestTouch(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.handle("/poll", func(s *sessionhttp.Session, r *http.Request) error {
		s.NoTouch()
		return errors.Join(s.View(r.Context(), nil), s.Update(r.Context(), increment))
	})
	b := s.browser()
	b.ok("/add")
	seen := func() time.Time {
		g, err := s.engine.Resolve(ctx, b.token())
		require.NoError(t, err)
		var at time.Time
		require.NoError(t, s.engine.View(ctx, g.ID, func(tx sessile.Txn) error { at = tx.Info().LastSeen; return nil }))
		return at
	}
	at := seen()
	require.Eventually(t, func() bool { b.ok("/n"); return seen().After(at) }, 10*time.Second, time.Millisecond)
	at = seen()
	other := s.browser()
	require.Eventually(t, func() bool { // the clock has moved on
		b.ok("/poll")
		other.ok("/add")
		g, err := s.engine.Resolve(ctx, other.token())
		require.NoError(t, err)
		var now time.Time
		require.NoError(t, s.engine.View(ctx, g.ID, func(tx sessile.Txn) error { now = tx.Info().LastSeen; return nil }))
		return now.After(at)
	}, 10*time.Second, time.Millisecond)
	require.Equal(t, at, seen())
}

func TestNoHandler(t *testing.T) {
	s := sessionhttp.From(httptest.NewRequest("GET", "/", nil))
	require.ErrorIs(t, s.View(ctx, nil), sessionhttp.ErrNoHandler)
	require.ErrorIs(t, s.Update(ctx, nil), sessionhttp.ErrNoHandler)
	require.ErrorIs(t, s.Ensure(ctx), sessionhttp.ErrNoHandler)
	require.ErrorIs(t, s.Restart(ctx), sessionhttp.ErrNoHandler)
	require.ErrorIs(t, s.Login(ctx, "ann", nil), sessionhttp.ErrNoHandler)
	require.ErrorIs(t, s.Logout(ctx), sessionhttp.ErrNoHandler)
	require.ErrorIs(t, s.EndOther(ctx, "a"), sessionhttp.ErrNoHandler)
	_, err := s.EndOthers(ctx)
	require.ErrorIs(t, err, sessionhttp.ErrNoHandler)
	for _, err := range s.Others(ctx) {
		require.ErrorIs(t, err, sessionhttp.ErrNoHandler)
	}
	<-s.Done()
	s.Close()
	s.Seal()
	s.NoTouch()
	s.WriteCookies(http.Header{})
}

// Calls of the handle inside its own callbacks end in an error, not in a deadlock.
func TestReentrance(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	inside := func(s *sessionhttp.Session, r *http.Request) error {
		return s.Update(r.Context(), func(tx sessile.Txn) error {
			require.ErrorIs(t, s.Update(tx.Context(), increment), sessile.ErrReentrant)
			require.ErrorIs(t, s.Login(tx.Context(), "ann", nil), sessile.ErrReentrant)
			n, err := sessile.Read(tx.Context(), s, counter)
			require.NoError(t, err)
			require.EqualValues(t, 0, n, "what is committed")
			return increment(tx)
		})
	}
	s.handle("/inside", inside)
	b := s.browser()
	b.ok("/inside") // while the session is made
	require.Equal(t, "1", b.ok("/n"))
	b.ok("/logout")
	b.ok("/ensure")
	b.ok("/inside")
	require.Equal(t, "1", b.ok("/n"))
}

// Logout takes effect though the disk is gone and somebody holds the session.
func TestLogoutNeverFailsOpen(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, sessile.Options{Dir: dir, DiskReserve: -1, CloseTimeout: time.Second, FlushInterval: time.Minute})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	header := []string{cookie.Name + "=" + cookie.Value}
	holds, release := make(chan struct{}), make(chan struct{})
	held := make(chan error)
	go func() {
		s, err := m.Open(ctx, header, nil)
		require.NoError(t, err)
		held <- s.Update(ctx, func(tx sessile.Txn) error {
			close(holds)
			<-release
			return increment(tx)
		})
	}()
	<-holds
	removeAll(t, dir)
	var set []*http.Cookie
	s, err := m.Open(ctx, header, func(c *http.Cookie) { set = append(set, c) })
	require.NoError(t, err)
	gone, cancel := context.WithCancel(ctx)
	require.NoError(t, s.View(ctx, nil))
	cancel()
	require.ErrorIs(t, s.Logout(gone), sessile.ErrDurabilityUnknown)
	require.Len(t, set, 1)
	require.Negative(t, set[0].MaxAge)
	require.ErrorIs(t, s.View(ctx, nil), sessile.ErrEnded)
	again, err := m.Open(ctx, header, nil)
	require.NoError(t, err)
	require.ErrorIs(t, again.View(ctx, nil), sessile.ErrEnded)
	close(release)
	require.Error(t, <-held)
}

func TestClearSiteData(t *testing.T) {
	s := newSite(t, sessionhttp.Options{ClearSiteData: `"cache"`})
	b := s.browser()
	b.ok("/login?user=ann")
	res := s.raw("/logout", "id="+b.token())
	require.Equal(t, `"cache"`, res.Header.Get("Clear-Site-Data"))
	require.Contains(t, res.Header.Get("Set-Cookie"), "Max-Age=0")
	require.Empty(t, s.raw("/n", "").Header.Get("Clear-Site-Data"))
}

func removeAll(t *testing.T, dir string) {
	t.Helper()
	require.NoError(t, os.RemoveAll(dir))
}
