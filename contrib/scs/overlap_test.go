package scsstore_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	scsstore "github.com/sessile-go/sessile/contrib/scs"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// Sixteen clients with one cookie write 200 keys, each its own. All of a round have loaded before one of it saves.
func TestDistinctKeys(t *testing.T) {
	const clients, keys = 16, 200
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=first&v=1")
		rounds := 0
		for k := 0; k < keys; rounds++ {
			var round []func()
			for range min(clients, keys-k) {
				path := fmt.Sprintf("/put?wait=1&k=key%d&v=%d", k, k)
				round = append(round, func() {
					if code, body := b.try(path); code != http.StatusOK {
						t.Error(body)
					}
				})
				k++
			}
			s.during(round, nil)
		}
		kept := len(strings.Fields(b.ok("/keys"))) - 1
		t.Logf("%d of %d kept", kept, keys)
		if loses {
			require.Equal(t, rounds, kept, "one of each round")
		} else {
			require.Equal(t, keys, kept)
			require.Equal(t, "117", b.ok("/get?k=key117"))
		}
	})
}

// The same with 5 ms of work in each handler, as it comes.
func TestDistinctKeysTimed(t *testing.T) {
	const clients, keys = 16, 200
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=first&v=1")
		work := make(chan int)
		done := make(chan struct{})
		for range clients {
			go func() {
				defer func() { done <- struct{}{} }()
				for k := range work {
					if code, body := b.try(fmt.Sprintf("/put?timer=1&k=key%d&v=%d", k, k)); code != http.StatusOK {
						t.Error(body)
					}
				}
			}()
		}
		for k := range keys {
			work <- k
		}
		close(work)
		for range clients {
			<-done
		}
		kept := len(strings.Fields(b.ok("/keys"))) - 1
		t.Logf("%d of %d kept", kept, keys)
		if loses {
			require.Less(t, kept, keys)
		} else {
			require.Equal(t, keys, kept)
		}
	})
}

// A slow request lies over a logout, 200 times.
func TestLogoutIsFinal(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		const times = 200
		revived := 0
		for range times {
			b := s.browser()
			b.ok("/login?user=ann")
			old := b.clone()
			slow := func() { b.clone().try("/put?wait=1&k=cart&v=3") }
			s.during([]func(){slow}, func() { b.ok("/logout") })
			if old.ok("/get?k=user") != "" {
				revived++
			}
		}
		if loses {
			require.Equal(t, times, revived)
			return
		}
		require.Zero(t, revived)
		require.Len(t, s.errors(), times)
		for _, err := range s.errors() {
			require.ErrorIs(t, err, scsstore.ErrGone)
		}
	})
}

// A request that only reads lies over a write. With an IdleTimeout scs commits for it.
func TestReaderDoesNotOverwrite(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		s.sm.IdleTimeout = time.Hour
		b := s.browser()
		b.ok("/put?k=a&v=1")
		s.during([]func(){func() { b.try("/get?wait=1&k=a") }}, func() { b.ok("/put?k=a&v=2") })
		if loses {
			require.Equal(t, "1", b.ok("/get?k=a"))
			return
		}
		require.Equal(t, "2", b.ok("/get?k=a"))
		require.Empty(t, s.errors())

		info := s.info(b)
		for range 50 {
			require.Equal(t, "2", b.ok("/get?k=a"))
		}
		require.Equal(t, info.Version, s.info(b).Version, "reading writes nothing")
		require.Eventually(t, func() bool {
			b.ok("/get?k=a")
			return s.info(b).LastSeen.After(info.LastSeen)
		}, 10*time.Second, time.Millisecond, "and extends the session")
		require.Equal(t, info.Version, s.info(b).Version)
	})
}

// A reader over a logout: the same, as a revival.
func TestReaderDoesNotRevive(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		s.sm.IdleTimeout = time.Hour
		b := s.browser()
		b.ok("/login?user=ann")
		old := b.clone()
		s.during([]func(){func() { b.clone().try("/get?wait=1&k=a") }}, func() { b.ok("/logout") })
		user := old.ok("/get?k=user")
		if loses {
			require.Equal(t, "ann", user)
		} else {
			require.Empty(t, user)
		}
	})
}

// A slow request with the old token lies over a renewal.
func TestRenewalKillsTheOldToken(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=lang&v=en")
		old := b.clone()
		s.during([]func(){func() { b.clone().try("/put?wait=1&k=cart&v=3") }}, func() { b.ok("/login?user=ann") })
		require.NotEqual(t, old.token(), b.token())
		if loses {
			require.Equal(t, "en", old.ok("/get?k=lang"))
			return
		}
		require.Empty(t, old.ok("/get?k=lang"))
		require.Equal(t, "ann", b.ok("/get?k=user"))
		require.Equal(t, "en", b.ok("/get?k=lang"))
		require.Len(t, s.errors(), 1)
		require.ErrorIs(t, s.errors()[0], scsstore.ErrGone)
	})
}

// What others write before the renewal is carried along.
func TestRenewalKeepsOthersWrites(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=lang&v=en")
		s.during([]func(){func() { b.try("/login?wait=1&user=ann") }}, func() { b.clone().ok("/put?k=cart&v=3") })
		require.Equal(t, "ann", b.ok("/get?k=user"))
		require.Equal(t, "en", b.ok("/get?k=lang"))
		cart := b.ok("/get?k=cart")
		if loses {
			require.Empty(t, cart)
		} else {
			require.Equal(t, "3", cart)
		}
	})
}

// A renewal of a session that a logout has ended, before it or while it went on, carries nothing over.
func TestRenewalAfterLogout(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/login?user=ann")
		b.ok("/put?k=cart&v=3")
		slow := b.clone()
		s.during([]func(){func() { slow.try("/login?wait=1&user=ann") }}, func() { b.ok("/logout") })
		cart := slow.ok("/get?k=cart")
		if loses {
			require.Equal(t, "3", cart)
			return
		}
		require.Empty(t, cart)
		require.Len(t, s.errors(), 1)
		require.ErrorIs(t, s.errors()[0], scsstore.ErrGone)
	})
}

// Of two overlapping renewals the first wins.
func TestTwoRenewals(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=lang&v=en")
		first, second := b.clone(), b.clone()
		s.during([]func(){func() { second.try("/login?wait=1&user=bob") }}, func() { first.ok("/login?user=ann") })
		require.Equal(t, "ann", first.ok("/get?k=user"))
		if loses {
			require.Equal(t, "en", second.ok("/get?k=lang"), "two sessions from one")
			return
		}
		require.Empty(t, second.ok("/get?k=user"))
		require.ErrorIs(t, s.errors()[0], scsstore.ErrGone)

		// The other way round: both have called RenewToken when the first one commits.
		b = s.browser()
		b.ok("/put?k=lang&v=en")
		first, second = b.clone(), b.clone()
		var letFirst sync.WaitGroup
		s.late = newMeeting(1)
		s.during([]func(){func() { second.try("/login?wait=1&user=bob") }}, func() {
			letFirst.Go(func() { first.try("/login?late=1&user=ann") })
			s.late.here.Wait()
		})
		close(s.late.open)
		letFirst.Wait()
		require.Len(t, s.errors(), 2)
		require.Equal(t, "ann", first.ok("/get?k=user"))
		require.Equal(t, "en", first.ok("/get?k=lang"))
		require.Empty(t, second.ok("/get?k=lang"))
	})
}

// info describes the session of a browser.
func (s *site) info(b *browser) (info sessile.Info) {
	s.t.Helper()
	require.NoError(s.t, s.engine.View(ctx, s.store.ID(b.token()), func(tx sessile.Txn) error {
		info = tx.Info()
		return nil
	}))
	return info
}

// Renewals, logouts and writes of one session as they come: what is left in the end is one session with all that was acknowledged,
// or none.
func TestOverlapsAsTheyCome(t *testing.T) {
	e := openEngine(t)
	sm, store := newManager(t, e, scsstore.Options{})
	renewed, ended, written := 0, 0, 0
	for range 500 {
		token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "user", "ann") })
		type result struct {
			token string
			err   error
		}
		var wg sync.WaitGroup
		start := make(chan struct{})
		run := func(fn func(context.Context) error) *result {
			base, cancel := context.WithCancel(ctx) // a request's
			loaded, err := sm.Load(base, token)
			require.NoError(t, err)
			r := new(result)
			wg.Go(func() {
				defer cancel()
				<-start
				if r.err = fn(loaded); r.err == nil && sm.Status(loaded) == scs.Modified {
					r.token, _, r.err = sm.Commit(loaded)
				}
			})
			return r
		}
		renewals := []*result{run(sm.RenewToken), run(sm.RenewToken), run(sm.RenewToken)}
		write := run(func(ctx context.Context) error { sm.Put(ctx, "cart", "3"); return nil })
		run(sm.Destroy)
		close(start)
		wg.Wait()

		winner := ""
		for _, r := range renewals {
			if r.err != nil {
				require.ErrorIs(t, r.err, scsstore.ErrGone)
				continue
			}
			require.Empty(t, winner, "two sessions from one")
			winner = r.token
		}
		if write.err != nil {
			require.ErrorIs(t, write.err, scsstore.ErrGone)
		} else {
			written++
		}
		require.Empty(t, dump(t, sm, token), "the old token is dead")
		switch {
		case winner == "":
			ended++
		case write.err == nil:
			renewed++
			require.Equal(t, "cart=3 user=ann", dump(t, sm, winner), "an acknowledged write moved along")
		default:
			renewed++
			require.Equal(t, "user=ann", dump(t, sm, winner))
		}
		if winner != "" {
			require.NoError(t, store.Delete(winner))
		}
		require.Zero(t, e.Stats().Sessions)
	}
	t.Logf("%d renewed, %d ended, %d writes in time", renewed, ended, written)
	require.Equal(t, 500, renewed+ended)
	require.NotZero(t, renewed)
}
