package gorillastore_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/sessions"
	gorillastore "github.com/sessile-go/sessile/contrib/gorilla"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

var (
	ctx     = context.Background()
	authKey = []byte("0123456789abcdef0123456789abcdef")
)

// keyType is a key as applications declare them.
type keyType int

const colour keyType = 1

func init() {
	gob.Register(keyType(0))
	gob.Register(map[string]int{})
	gob.Register(&cart{})
}

type cart struct{ Items []string }

func openEngine(t testing.TB) *sessile.Engine {
	t.Helper()
	e, err := sessile.Open(sessile.Options{InMemory: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	return e
}

// A site is an application written for gorilla/sessions, on a server. Its handlers know nothing of the store.
type site struct {
	*httptest.Server
	t      *testing.T
	store  sessions.Store
	engine *sessile.Engine // nil with the stock store

	meet *meeting // where requests with wait=1 wait between load and change

	mu   sync.Mutex
	errs []error // of Save
}

// stock is the application on gorilla's FilesystemStore.
func stock(t *testing.T) *site {
	return serve(t, &site{store: sessions.NewFilesystemStore(t.TempDir(), authKey)})
}

// repaired is the same application on an engine.
func repaired(t *testing.T) *site {
	e := openEngine(t)
	store, err := gorillastore.New(e, authKey)
	require.NoError(t, err)
	store.Options.Secure = false
	return serve(t, &site{store: store, engine: e})
}

// both runs a test on both. The stock one must lose, or the test shows nothing.
func both(t *testing.T, test func(t *testing.T, s *site, loses bool)) {
	t.Run("stock", func(t *testing.T) { test(t, stock(t), true) })
	t.Run("repaired", func(t *testing.T) { test(t, repaired(t), false) })
}

func serve(t *testing.T, s *site) *site {
	s.t = t
	mux := http.NewServeMux()
	handle := func(path string, fn func(session *sessions.Session, r *http.Request) (body any, save bool)) {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			session, err := s.store.Get(r, "app")
			if err != nil && !session.IsNew {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			if r.FormValue("wait") != "" {
				s.meet.arrive()
			}
			if r.FormValue("timer") != "" {
				<-time.After(5 * time.Millisecond) // the handler's work
			}
			body, save := fn(session, r)
			if save {
				if err := session.Save(r, w); err != nil {
					s.mu.Lock()
					s.errs = append(s.errs, err)
					s.mu.Unlock()
					http.Error(w, err.Error(), http.StatusInternalServerError)
					return
				}
			}
			fmt.Fprint(w, body)
		})
	}
	handle("/put", func(session *sessions.Session, r *http.Request) (any, bool) {
		session.Values[r.FormValue("k")] = r.FormValue("v")
		return "", true
	})
	handle("/get", func(session *sessions.Session, r *http.Request) (any, bool) {
		v, _ := session.Values[r.FormValue("k")].(string)
		return v, false
	})
	handle("/read", func(session *sessions.Session, r *http.Request) (any, bool) {
		v, _ := session.Values[r.FormValue("k")].(string)
		return v, true // as many applications do, in a middleware
	})
	handle("/count", func(session *sessions.Session, _ *http.Request) (any, bool) { return len(session.Values), false })
	handle("/map", func(session *sessions.Session, r *http.Request) (any, bool) {
		m, _ := session.Values["map"].(map[string]int)
		if m == nil {
			m = make(map[string]int)
			session.Values["map"] = m
		}
		if v := r.FormValue("v"); v != "" {
			m[v]++ // in place
			m["all"]++
		}
		return m["all"], true
	})
	handle("/flash", func(session *sessions.Session, r *http.Request) (any, bool) {
		session.AddFlash(r.FormValue("text"))
		return "", true
	})
	handle("/flashes", func(session *sessions.Session, r *http.Request) (any, bool) {
		var all []string
		for _, f := range session.Flashes() {
			all = append(all, f.(string))
		}
		slices.Sort(all)
		return all, true
	})
	handle("/login", func(session *sessions.Session, r *http.Request) (any, bool) {
		session.ID = ""
		session.Values["user"] = r.FormValue("user")
		return "", true
	})
	handle("/logout", func(session *sessions.Session, _ *http.Request) (any, bool) {
		session.Options.MaxAge = -1
		return "", true
	})
	s.Server = httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// gone returns how many of the saves answered ErrGone. There must be no other errors.
func (s *site) gone() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, err := range s.errs {
		require.True(s.t, errors.Is(err, gorillastore.ErrGone), err)
	}
	return len(s.errs)
}

// A meeting lets n requests wait for each other, and then for leave to go on.
type meeting struct {
	here sync.WaitGroup
	open chan struct{}
}

func (m *meeting) arrive() {
	m.here.Done()
	<-m.open
}

// during runs fn while requests, which begin sees to, have loaded their sessions and not changed them; then it waits for
// their ends.
func (s *site) during(begin []func(), fn func()) {
	m := &meeting{open: make(chan struct{})}
	m.here.Add(len(begin))
	s.meet = m
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
	u := b.s.request("/").URL
	c.Jar.SetCookies(u, b.Jar.Cookies(u))
	return c
}

func (s *site) request(path string) *http.Request {
	r, err := http.NewRequest("GET", s.URL+path, nil)
	require.NoError(s.t, err)
	return r
}

// try returns status and body.
func (b *browser) try(path string) (int, string) {
	res, err := b.Do(b.s.request(path))
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
