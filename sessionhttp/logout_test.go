package sessionhttp_test

import (
	"context"
	"errors"
	"math/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

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

// A browser that has gone before its session was even looked up is logged out, durably.
func TestLogoutOutlivesCancellation(t *testing.T) {
	e := openEngine(t, sessile.Options{Dir: t.TempDir(), DiskReserve: -1})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	gone, cancel := context.WithCancel(ctx)
	cancel()
	w := httptest.NewRecorder()
	r := httptest.NewRequest("POST", "/logout", nil).WithContext(gone)
	r.AddCookie(cookie)
	m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.NoError(t, sessionhttp.From(r).Logout(r.Context()))
	})).ServeHTTP(w, r)
	require.Contains(t, w.Header().Get("Set-Cookie"), "Max-Age=0")
	_, err = e.Resolve(ctx, cookie.Value)
	require.ErrorIs(t, err, sessile.ErrEnded)
}

// Inside a transaction Logout does nothing and says so: the session goes on, and so does the handle.
func TestLogoutInsideTransaction(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	n := 0
	s, err := m.Open(ctx, nil, setCounter(&n))
	require.NoError(t, err)
	require.NoError(t, s.Login(ctx, "ann", nil))
	require.NoError(t, s.Update(ctx, func(tx sessile.Txn) error {
		require.ErrorIs(t, s.Logout(tx.Context()), sessile.ErrReentrant)
		return increment(tx)
	}))
	require.Equal(t, 1, n, "no cookie but the login's")
	require.NoError(t, s.View(ctx, nil))
	require.NoError(t, s.Update(ctx, func(tx sessile.Txn) error { return tx.Destroy() }))
	require.ErrorIs(t, s.View(ctx, nil), sessile.ErrEnded)
	require.NoError(t, s.Logout(ctx), "it has ended already")
	require.NoError(t, s.Logout(ctx))
}

// With the engine closed the browser is told to forget its cookie, and the caller that this was all.
func TestLogoutOfClosedEngine(t *testing.T) {
	dir := t.TempDir()
	e := openEngine(t, sessile.Options{Dir: dir})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	header := []string{cookie.Name + "=" + cookie.Value}
	for _, known := range []bool{false, true} {
		w := httptest.NewRecorder()
		m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			s := sessionhttp.From(r)
			if known {
				require.NoError(t, s.View(r.Context(), nil))
			}
			require.NoError(t, e.Close())
			require.ErrorIs(t, s.Logout(r.Context()), sessile.ErrClosed)
		})).ServeHTTP(w, &http.Request{Header: http.Header{"Cookie": header}})
		require.Contains(t, w.Header().Get("Set-Cookie"), "Max-Age=0")
		e = openEngine(t, sessile.Options{Dir: dir})
		m, err = sessionhttp.New(e, sessionhttp.Options{})
		require.NoError(t, err)
	}
}

// A handle that logs in and out in two goroutines ends with a session or without one, and says which.
func TestLogoutBesideLogin(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	outs := 0
	for i := range 2000 {
		var last *http.Cookie
		s, err := m.Open(ctx, nil, func(c *http.Cookie) { last = c })
		require.NoError(t, err)
		require.NoError(t, s.Login(ctx, "ann", nil))
		var wg sync.WaitGroup
		wg.Go(func() {
			err := s.Login(ctx, []string{"ann", "bob"}[i%2], nil)
			if err != nil && !errors.Is(err, sessile.ErrEnded) {
				t.Error(err)
			}
		})
		wg.Go(func() {
			for range rand.Intn(40) {
				runtime.Gosched()
			}
			if err := s.Logout(ctx); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if err := s.View(ctx, nil); errors.Is(err, sessile.ErrEnded) {
			outs++
			require.Zero(t, e.Stats().Sessions)
			require.Negative(t, last.MaxAge)
			continue
		}
		require.NoError(t, s.View(ctx, nil))
		require.EqualValues(t, 1, e.Stats().Sessions)
		require.Positive(t, last.MaxAge)
		require.NoError(t, s.Logout(ctx))
		require.Zero(t, e.Stats().Sessions)
	}
	require.NotZero(t, outs)
}

// What a login, a renewal and a logout have done when they return, no crash undoes. The copy of the directory is what a crash leaves.
func TestCrash(t *testing.T) {
	dir := t.TempDir()
	opt := sessile.Options{Dir: filepath.Join(dir, "data"), FlushInterval: time.Minute, CheckpointInterval: time.Minute, DiskReserve: -1}
	e := openEngine(t, opt)
	m, err := sessionhttp.New(e, sessionhttp.Options{RenewAfter: time.Nanosecond})
	require.NoError(t, err)
	var token string
	keep := func(c *http.Cookie) { token = c.Value }
	proves := func(token string) error {
		t.Helper()
		after := sessile.Options{Dir: filepath.Join(t.TempDir(), "data"), DiskReserve: -1}
		require.NoError(t, os.CopyFS(after.Dir, os.DirFS(opt.Dir)))
		e, err := sessile.Open(after)
		require.NoError(t, err)
		defer e.Close()
		_, err = e.Resolve(ctx, token)
		return err
	}
	s, err := m.Open(ctx, nil, keep)
	require.NoError(t, err)
	require.NoError(t, s.Login(ctx, "ann", nil))
	login := token
	require.NoError(t, proves(login))
	require.Eventually(t, func() bool { // the token has become old
		s, err := m.Open(ctx, []string{"__Host-id=" + login}, keep)
		require.NoError(t, err)
		require.NoError(t, s.View(ctx, nil))
		return token != login
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, proves(token), "renewed")
	require.NoError(t, s.Logout(ctx))
	require.ErrorIs(t, proves(token), sessile.ErrNoToken)
	require.ErrorIs(t, proves(login), sessile.ErrNoToken)
}

// On a full disk a login is refused whole, and a logout takes effect.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	mount(t, dir, 160<<20)
	e, err := sessile.Open(sessile.Options{Dir: filepath.Join(dir, "data"), DiskReserve: 64 << 20, FlushInterval: time.Millisecond})
	require.NoError(t, err)
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	cookie, err := m.Issue(ctx, "ann", nil)
	require.NoError(t, err)
	header := []string{cookie.Name + "=" + cookie.Value}
	var last *http.Cookie
	s, err := m.Open(ctx, header, func(c *http.Cookie) { last = c })
	require.NoError(t, err)

	rubbish := filepath.Join(dir, "rubbish")
	f, err := os.Create(rubbish)
	require.NoError(t, err)
	for err == nil {
		_, err = f.Write(make([]byte, 1<<20))
	}
	require.NoError(t, f.Close())
	require.Eventually(t, func() bool { return errors.Is(s.Update(ctx, increment), sessile.ErrDiskFull) }, 30*time.Second, 10*time.Millisecond)
	last = nil
	require.ErrorIs(t, s.Login(ctx, "bob", nil), sessile.ErrDiskFull)
	require.Nil(t, last)
	user, err := s.User(ctx)
	require.NoError(t, err)
	require.Equal(t, "ann", user)

	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, s.Logout(gone), sessile.ErrDurabilityUnknown)
	require.Negative(t, last.MaxAge)
	again, err := m.Open(ctx, header, nil)
	require.NoError(t, err)
	require.ErrorIs(t, again.View(ctx, nil), sessile.ErrEnded)

	require.NoError(t, os.Remove(rubbish))
	require.Eventually(t, func() bool { return e.Flush(ctx) == nil }, 30*time.Second, 10*time.Millisecond, "with room again the end is on disk")
	require.NoError(t, e.Close())
}
