package sessionhttp_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

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
	require.Empty(t, b.token())
	require.Zero(t, s.sessions(), "no record until something is written")
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

// A request whose callback fails has used its session too.
func TestTouchOfFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, sessile.Options{IdleTimeout: time.Hour})
		defer e.Close()
		m, err := sessionhttp.New(e, sessionhttp.Options{})
		require.NoError(t, err)
		cookie, err := m.Issue(ctx, "ann", nil)
		require.NoError(t, err)
		for _, use := range []func(s *sessionhttp.Session) error{
			func(s *sessionhttp.Session) error {
				return s.Update(ctx, func(sessile.Txn) error { return io.ErrUnexpectedEOF })
			},
			func(s *sessionhttp.Session) error {
				return s.View(ctx, func(sessile.Txn) error { return io.ErrUnexpectedEOF })
			},
		} {
			for range 3 {
				time.Sleep(50 * time.Minute)
				s, err := m.Open(ctx, headerOf(cookie), nil)
				require.NoError(t, err)
				require.ErrorIs(t, use(s), io.ErrUnexpectedEOF)
			}
		}
		time.Sleep(61 * time.Minute)
		s, err := m.Open(ctx, headerOf(cookie), nil)
		require.NoError(t, err)
		require.Error(t, s.View(ctx, nil))
	})
}

// Anonymous sessions have a shorter life and a number of their own, and push nobody out.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := map[string]int{}
		e, err := sessile.Open(sessile.Options{InMemory: true, MaxAnonymous: 10, IdleTimeout: 12 * time.Hour,
			OnEnd: func(i sessile.Info, r sessile.Reason) { ends[i.User+" "+r.String()]++ }})
		require.NoError(t, err)
		defer e.Close()
		m, err := sessionhttp.New(e, sessionhttp.Options{AnonymousIdle: 30 * time.Minute})
		require.NoError(t, err)
		ann, err := m.Issue(ctx, "ann", nil)
		require.NoError(t, err)
		flood := func() (made int) {
			for range 100 {
				n := 0
				s, err := m.Open(ctx, nil, setCounter(&n))
				require.NoError(t, err)
				require.NoError(t, s.View(ctx, nil))
				if err := s.Update(ctx, increment); err != nil {
					require.ErrorIs(t, err, sessile.ErrTooMany)
					require.Zero(t, n)
				} else {
					made++
				}
			}
			return made
		}
		require.Equal(t, 10, flood())
		require.Zero(t, flood())
		bob, err := m.Issue(ctx, "bob", nil)
		require.NoError(t, err, "a login needs no room among the anonymous")
		time.Sleep(31 * time.Minute)
		require.Equal(t, 10, flood(), "the others are gone")
		for _, c := range []*http.Cookie{ann, bob} {
			s, err := m.Open(ctx, headerOf(c), nil)
			require.NoError(t, err)
			require.NoError(t, s.View(ctx, nil))
		}
		time.Sleep(13 * time.Hour)
		require.Zero(t, e.Stats().Sessions)
		require.NoError(t, e.Close())
		require.Equal(t, map[string]int{" expired": 20, "ann expired": 1, "bob expired": 1}, ends)
	})
}

// An anonymous session that logs in lives as long as the engine's others, and counts no more.
func TestAnonymousSessionLogsIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, sessile.Options{MaxAnonymous: 1, IdleTimeout: 12 * time.Hour})
		defer e.Close()
		m, err := sessionhttp.New(e, sessionhttp.Options{AnonymousIdle: 30 * time.Minute})
		require.NoError(t, err)
		for range 3 {
			n := 0
			s, err := m.Open(ctx, nil, setCounter(&n))
			require.NoError(t, err)
			require.NoError(t, s.Update(ctx, increment))
			require.NoError(t, s.Login(ctx, "ann", nil))
			require.Equal(t, 2, n)
		}
		time.Sleep(11 * time.Hour)
		require.EqualValues(t, 3, e.Stats().Sessions)
		require.Zero(t, e.Stats().Anonymous)
	})
}
