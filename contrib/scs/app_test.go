package scsstore_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	scsstore "github.com/sessile-go/sessile/contrib/scs"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

var ctx = context.Background()

func openEngine(t testing.TB) *sessile.Engine {
	t.Helper()
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// A site is an application written for scs, on a server. Its handlers know nothing of the store.
type site struct {
	*httptest.Server
	t      *testing.T
	sm     *scs.SessionManager
	engine *sessile.Engine // nil with the stock store
	store  *scsstore.Store

	meet *meeting // where requests with wait=1 wait between load and change
	late *meeting // where those with late=1 wait between RenewToken and its commit

	mu   sync.Mutex
	errs []error // that the manager's ErrorFunc was told of
}

// stock is the application on scs's own store and codec.
func stock(t *testing.T) *site {
	sm := scs.New()
	sm.Store = memstore.NewWithCleanupInterval(0)
	return serve(t, &site{sm: sm})
}

// repaired is the same application on an engine.
func repaired(t *testing.T) *site {
	sm := scs.New()
	e := openEngine(t)
	store, err := scsstore.New(e, scsstore.Options{})
	require.NoError(t, err)
	sm.Store, sm.Codec = store, store.Codec()
	return serve(t, &site{sm: sm, engine: e, store: store})
}

// both runs a test on both. The stock one must lose, or the test shows nothing.
func both(t *testing.T, test func(t *testing.T, s *site, loses bool)) {
	t.Run("stock", func(t *testing.T) { test(t, stock(t), true) })
	t.Run("repaired", func(t *testing.T) { test(t, repaired(t), false) })
}

func serve(t *testing.T, s *site) *site {
	s.t = t
	s.sm.ErrorFunc = func(w http.ResponseWriter, _ *http.Request, err error) {
		s.mu.Lock()
		s.errs = append(s.errs, err)
		s.mu.Unlock()
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
	mux := http.NewServeMux()
	handle := func(path string, fn func(ctx context.Context, r *http.Request) (any, error)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if r.FormValue("wait") != "" {
				s.meet.arrive()
			}
			if r.FormValue("timer") != "" {
				<-time.After(5 * time.Millisecond) // the handler's work
			}
			v, err := fn(r.Context(), r)
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			fmt.Fprint(w, v)
		})
	}
	handle("/put", func(ctx context.Context, r *http.Request) (any, error) {
		s.sm.Put(ctx, r.FormValue("k"), r.FormValue("v"))
		return "", nil
	})
	handle("/get", func(ctx context.Context, r *http.Request) (any, error) {
		return s.sm.GetString(ctx, r.FormValue("k")), nil
	})
	handle("/map", func(ctx context.Context, r *http.Request) (any, error) {
		m, _ := s.sm.Get(ctx, "map").(map[string]int)
		if m == nil {
			m = make(map[string]int)
			s.sm.Put(ctx, "map", m)
		}
		if v := r.FormValue("v"); v != "" {
			m[v]++ // in place
			m["all"]++
		}
		return m["all"], nil
	})
	handle("/pop", func(ctx context.Context, r *http.Request) (any, error) {
		return s.sm.PopString(ctx, r.FormValue("k")), nil
	})
	handle("/keys", func(ctx context.Context, _ *http.Request) (any, error) { return s.sm.Keys(ctx), nil })
	handle("/clear", func(ctx context.Context, _ *http.Request) (any, error) { return "", s.sm.Clear(ctx) })
	handle("/logout", func(ctx context.Context, _ *http.Request) (any, error) { return "", s.sm.Destroy(ctx) })
	handle("/login", func(ctx context.Context, r *http.Request) (any, error) {
		if err := s.sm.RenewToken(ctx); err != nil {
			return nil, err
		}
		if r.FormValue("late") != "" {
			s.late.arrive()
		}
		s.sm.Put(ctx, "user", r.FormValue("user"))
		return "", nil
	})
	s.Server = httptest.NewServer(s.sm.LoadAndSave(mux))
	t.Cleanup(s.Close)
	return s
}

func (s *site) errors() []error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.errs
}

// A meeting lets n requests wait for each other, and then for leave to go on.
type meeting struct {
	here sync.WaitGroup
	open chan struct{}
}

func newMeeting(n int) *meeting {
	m := &meeting{open: make(chan struct{})}
	m.here.Add(n)
	return m
}

func (m *meeting) arrive() {
	m.here.Done()
	<-m.open
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

// clone is another browser with the same cookies as they are now.
func (b *browser) clone() *browser {
	c := b.s.browser()
	u := b.s.url("/")
	c.Jar.SetCookies(u.URL, b.Jar.Cookies(u.URL))
	return c
}

func (s *site) url(path string) *http.Request {
	r, err := http.NewRequest("GET", s.URL+path, nil)
	require.NoError(s.t, err)
	return r
}

func (b *browser) token() string {
	cookies := b.Jar.Cookies(b.s.url("/").URL)
	if len(cookies) == 0 {
		return ""
	}
	return cookies[0].Value
}

// try returns status and body.
func (b *browser) try(path string) (int, string) {
	res, err := b.Do(b.s.url(path))
	if err != nil {
		b.s.t.Error(err)
		return 0, ""
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		b.s.t.Error(err)
	}
	return res.StatusCode, string(body)
}

func (b *browser) ok(path string) string {
	b.s.t.Helper()
	code, body := b.try(path)
	require.Equal(b.s.t, http.StatusOK, code, body)
	return body
}

// during runs fn while requests, which begin sees to, have loaded their sessions and not changed them; then it waits for
// their ends.
func (s *site) during(begin []func(), fn func()) {
	s.meet = newMeeting(len(begin))
	hold(s.meet, begin, fn)
}

func hold(m *meeting, begin []func(), fn func()) {
	var ended sync.WaitGroup
	for _, b := range begin {
		ended.Go(b)
	}
	m.here.Wait()
	defer ended.Wait()
	defer close(m.open)
	if fn != nil {
		fn()
	}
}
