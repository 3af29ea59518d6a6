package sessionhttp_test

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

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

// renewing runs fn with a Manager that renews each day and with a user's first token, in a time of its own.
func renewing(t *testing.T, fn func(t *testing.T, m *sessionhttp.Manager, header []string, events *atomic.Int64)) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, sessile.Options{IdleTimeout: 20 * 24 * time.Hour})
		defer e.Close()
		var events atomic.Int64
		m, err := sessionhttp.New(e, sessionhttp.Options{OnEvent: func(e sessionhttp.Event) {
			if e.Kind == sessionhttp.Renewed {
				require.Equal(t, "ann", e.User)
				events.Add(1)
			}
		}})
		require.NoError(t, err)
		cookie, err := m.Issue(ctx, "ann", nil)
		require.NoError(t, err)
		fn(t, m, headerOf(cookie), &events)
	})
}

func headerOf(c *http.Cookie) []string { return []string{c.Name + "=" + c.Value} }

// Of all requests that find the token old, one gets a new one.
func TestOneRenewalPerPeriod(t *testing.T) {
	renewing(t, func(t *testing.T, m *sessionhttp.Manager, header []string, events *atomic.Int64) {
		for period := range 4 {
			var mu sync.Mutex
			var sent []*http.Cookie
			var wg, looked sync.WaitGroup
			looked.Add(16)
			for i := range 32 {
				wg.Go(func() {
					s, err := m.Open(ctx, header, func(c *http.Cookie) {
						mu.Lock()
						defer mu.Unlock()
						sent = append(sent, c)
					})
					require.NoError(t, err)
					if i%2 == 0 {
						require.NoError(t, s.View(ctx, func(sessile.Txn) error {
							looked.Done()
							looked.Wait() // all find it old before the first renews it
							return nil
						}))
					} else {
						looked.Wait()
						require.NoError(t, s.Update(ctx, increment))
					}
				})
			}
			wg.Wait()
			if period == 0 {
				require.Empty(t, sent, "it is new")
			} else {
				require.Len(t, sent, 1)
				require.EqualValues(t, period, events.Load())
				header = headerOf(sent[0])
			}
			time.Sleep(24*time.Hour + time.Second)
		}
	})
}

// An answer with a new token is lost on its way. The old one stays good, and so does the next.
func TestLostRenewal(t *testing.T) {
	renewing(t, func(t *testing.T, m *sessionhttp.Manager, header []string, events *atomic.Int64) {
		var sent *http.Cookie
		use := func(header []string) error {
			s, err := m.Open(ctx, header, func(c *http.Cookie) { sent = c })
			require.NoError(t, err)
			return s.View(ctx, nil)
		}
		for range 5 {
			time.Sleep(25 * time.Hour)
			sent = nil
			require.NoError(t, use(header))
			require.NotNil(t, sent, "it is offered again each period")
			require.NoError(t, use(header))
		}
		require.NoError(t, use(headerOf(sent)), "this one has arrived")
		require.NoError(t, use(header), "requests under way may still have the old one")
		time.Sleep(6 * time.Second)
		require.ErrorIs(t, use(header), sessile.ErrRenewed)
		time.Sleep(time.Minute)
		require.ErrorIs(t, use(header), sessile.ErrNoToken)
		require.NoError(t, use(headerOf(sent)))
		require.EqualValues(t, 5, events.Load())
	})
}

// The request is cancelled while its session is renewed: the token is in the session and in the header.
func TestRenewalOutlivesCancellation(t *testing.T) {
	renewing(t, func(t *testing.T, m *sessionhttp.Manager, header []string, events *atomic.Int64) {
		time.Sleep(25 * time.Hour)
		var sent *http.Cookie
		s, err := m.Open(ctx, header, func(c *http.Cookie) { sent = c })
		require.NoError(t, err)
		going, cancel := context.WithCancel(ctx)
		require.NoError(t, s.View(going, func(sessile.Txn) error { cancel(); return nil }))
		require.NotNil(t, sent)
		again, err := m.Open(ctx, headerOf(sent), nil)
		require.NoError(t, err)
		require.NoError(t, again.View(ctx, nil))
	})
}

// With the header gone a token is not renewed, which would be for nobody, and a login elsewhere is not undone by it.
func TestNoRenewalWithoutHeader(t *testing.T) {
	renewing(t, func(t *testing.T, m *sessionhttp.Manager, header []string, events *atomic.Int64) {
		time.Sleep(25 * time.Hour)
		s, err := m.Open(ctx, header, nil)
		require.NoError(t, err)
		require.NoError(t, s.View(ctx, nil))
		require.NoError(t, s.Update(ctx, increment))
		require.Zero(t, events.Load())

		n := 0
		s, err = m.Open(ctx, header, setCounter(&n))
		require.NoError(t, err)
		require.NoError(t, s.View(ctx, func(sessile.Txn) error { s.Seal(); return nil }))
		require.Zero(t, events.Load())
		require.Zero(t, n)
	})
}
