package sessionhttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

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
	require.Equal(t, http.StatusBadRequest, code)
	require.Equal(t, []string{"created ", "logged in ann", "logged in ann", "logged in bob"}, events)
}

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

func TestStreamEndsWithLogin(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		session := sessionhttp.From(r)
		_ = session.View(r.Context(), nil) // what the token proves is known before the login
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

// The browser gives up; the login, whose cookie may be on its way, does not.
func TestLoginOutlivesCancellation(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	for _, before := range []func(*sessionhttp.Session) error{
		func(*sessionhttp.Session) error { return nil },
		func(s *sessionhttp.Session) error { return s.Ensure(ctx) },
		func(s *sessionhttp.Session) error { return s.Login(ctx, "bob", nil) },
	} {
		n := 0
		s, err := m.Open(ctx, nil, setCounter(&n))
		require.NoError(t, err)
		require.NoError(t, before(s))
		n = 0
		require.ErrorIs(t, s.Update(gone, increment), context.Canceled, "another transaction does")
		require.NoError(t, s.Login(gone, "ann", func(tx sessile.Txn) error { return tx.Context().Err() }))
		require.Equal(t, 1, n)
		user, err := s.User(ctx)
		require.NoError(t, err)
		require.Equal(t, "ann", user)
	}
}

// A login that fails changes nothing: not the session, not its token, not who is logged in.
func TestFailedLogin(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	s.handle("/fails", func(s *sessionhttp.Session, r *http.Request) error {
		return s.Login(r.Context(), r.FormValue("user"), func(tx sessile.Txn) error {
			require.NoError(t, increment(tx))
			return io.ErrUnexpectedEOF
		})
	})
	b := s.browser()
	for _, before := range []string{"/n", "/add", "/login?user=ann"} {
		b.ok(before)
		token, n, user, sessions := b.token(), b.ok("/n"), b.ok("/user"), s.sessions()
		for _, as := range []string{"ann", "bob", strings.Repeat("x", 300)} {
			code, _ := b.get("/fails?user=" + as)
			require.NotEqual(t, http.StatusOK, code)
		}
		require.Equal(t, []any{token, n, user, sessions}, []any{b.token(), b.ok("/n"), b.ok("/user"), s.sessions()})
	}
}

// To log in as somebody else ends the one session and begins another one, with nothing of the first.
func TestLoginAsAnotherUser(t *testing.T) {
	ends := make(chan string, 8)
	e, err := sessile.Open(sessile.Options{InMemory: true, OnEnd: func(i sessile.Info, r sessile.Reason) { ends <- i.User + " " + r.String() }})
	require.NoError(t, err)
	defer e.Close()
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	ann, err := m.Issue(ctx, "ann", increment)
	require.NoError(t, err)
	header := []string{ann.Name + "=" + ann.Value}
	stream, err := m.Open(ctx, header, nil)
	require.NoError(t, err)
	done := stream.Done()
	var bob *http.Cookie
	s, err := m.Open(ctx, header, func(c *http.Cookie) { bob = c })
	require.NoError(t, err)
	require.NoError(t, s.Login(ctx, "bob", nil))
	require.Equal(t, "ann deleted", <-ends)
	<-done
	require.ErrorIs(t, stream.View(ctx, nil), sessile.ErrEnded)
	late, err := m.Open(ctx, header, nil)
	require.NoError(t, err)
	require.ErrorIs(t, late.View(ctx, nil), sessile.ErrRenewed, "the browser has, or is about to get, bob's")
	n, err := sessile.Read(ctx, s, counter)
	require.NoError(t, err)
	require.Zero(t, n)
	before, _, _ := strings.Cut(ann.Value, ".")
	after, _, _ := strings.Cut(bob.Value, ".")
	require.NotEqual(t, before, after)
}

func TestLoginForgetsWhatWasBegunBefore(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{BrowserSession: true})
	require.NoError(t, err)
	var cookie *http.Cookie
	s, err := m.Open(ctx, nil, func(c *http.Cookie) { cookie = c })
	require.NoError(t, err)
	once := func() (first bool) {
		require.NoError(t, s.Update(ctx, func(tx sessile.Txn) (err error) {
			first, err = sessionhttp.Once(tx, "order", time.Hour)
			return err
		}))
		return first
	}
	require.True(t, once())
	require.False(t, once())
	require.NoError(t, s.Login(ctx, "ann", func(tx sessile.Txn) error { return sessionhttp.Remember(tx, 20*24*time.Hour) }))
	require.NotZero(t, cookie.MaxAge)
	require.True(t, once())
	require.NoError(t, s.Login(ctx, "ann", nil))
	require.Zero(t, cookie.MaxAge, "each login decides whether to remember")
	require.NoError(t, s.View(ctx, func(tx sessile.Txn) error {
		require.Less(t, time.Until(tx.Info().Expires), 25*time.Hour)
		return nil
	}))
}

// Tabs of one browser add and log in at once, with whatever cookie the browser has at the time: what was
// acknowledged is there, and of all tokens ever sent the browser's alone is alive.
func TestLoginsOfOneBrowser(t *testing.T) {
	s := newSite(t, sessionhttp.Options{})
	for range 20 {
		b := s.browser()
		b.ok("/add")
		applied := atomic.Int64{}
		applied.Add(1)
		var mu sync.Mutex
		sent := map[string]bool{b.token(): true}
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				path, times := "/add", 10
				if i%4 == 0 {
					path, times = "/login?user=ann", 3 // a session knows its last 8 tokens
				}
				for range times {
					res, err := b.Get(s.URL + path)
					if err != nil {
						t.Error(err)
						return
					}
					res.Body.Close()
					switch {
					case res.StatusCode == http.StatusUnauthorized:
						if len(res.Cookies()) != 0 {
							t.Error("a refusal sets a cookie")
						}
					case res.StatusCode != http.StatusOK:
						t.Error(res.Status)
					case i%4 == 0:
						mu.Lock()
						sent[res.Cookies()[0].Value] = true
						mu.Unlock()
					default:
						applied.Add(1)
					}
				}
			})
		}
		wg.Wait()
		require.Equal(t, fmt.Sprint(applied.Load()), b.ok("/n"))
		require.Equal(t, "ann", b.ok("/user"))
		require.Greater(t, len(sent), 1)
		for token := range sent {
			_, err := s.engine.Resolve(ctx, token)
			if token == b.token() {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		}
		b.ok("/logout")
	}
}

// Every use of a handle checks its epoch: after a login elsewhere none has any effect.
func TestHandleAfterLoginElsewhere(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{RenewAfter: time.Nanosecond})
	require.NoError(t, err)
	first, err := m.Issue(ctx, "ann", increment)
	require.NoError(t, err)
	second, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	open := func(n *int) *sessionhttp.Session {
		s, err := m.Open(ctx, headerOf(first), setCounter(n))
		require.NoError(t, err)
		return s
	}
	cookies, ignored := 0, 0
	old, winner := open(&cookies), open(&ignored)
	done := old.Done()
	require.NoError(t, winner.Login(ctx, "ann", nil))
	never := func(sessile.Txn) error { t.Error("it ran"); return nil }
	other, _, _ := strings.Cut(second.Value, ".")
	for name, use := range map[string]func() error{
		"Update":   func() error { return old.Update(ctx, never) },
		"View":     func() error { return old.View(ctx, never) },
		"Login":    func() error { return old.Login(ctx, "ann", never) },
		"as bob":   func() error { return old.Login(ctx, "bob", never) },
		"Ensure":   func() error { return old.Ensure(ctx) },
		"Restart":  func() error { return old.Restart(ctx) },
		"Logout":   func() error { return old.Logout(ctx) },
		"EndOther": func() error { return old.EndOther(ctx, other) },
		"EndOthers": func() error {
			_, err := old.EndOthers(ctx)
			return err
		},
		"Others": func() (err error) {
			for _, err = range old.Others(ctx) {
			}
			return err
		},
		"User": func() error { _, err := old.User(ctx); return err },
		"Wait": func() error { _, err := old.Wait(ctx, 0); return err },
	} {
		require.ErrorIs(t, use(), sessile.ErrRenewed, name)
	}
	<-done
	require.Zero(t, cookies)
	n, err := sessile.Read(ctx, winner, counter)
	require.NoError(t, err)
	require.EqualValues(t, 1, n)
	require.EqualValues(t, 2, e.Stats().Sessions)
}
