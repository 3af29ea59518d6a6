package gorillastore_test

import (
	"fmt"
	"net/http"
	"testing"

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
		var kept int
		_, err := fmt.Sscan(b.ok("/count"), &kept)
		require.NoError(t, err)
		kept--
		t.Logf("%d of %d kept", kept, keys)
		if loses {
			require.Equal(t, rounds, kept, "one of each round")
		} else {
			require.Equal(t, keys, kept)
			require.Equal(t, "117", b.ok("/get?k=key117"))
			require.Zero(t, s.gone())
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
		count := b.ok("/count")
		t.Logf("%s of %d kept, with the first", count, keys+1)
		if loses {
			require.NotEqual(t, "201", count)
		} else {
			require.Equal(t, "201", count)
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
		require.Equal(t, times, s.gone())
	})
}

// A request that only reads, and saves, lies over a write, and over a logout.
func TestReaderDoesNotOverwrite(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=a&v=1")
		s.during([]func(){func() { b.clone().try("/read?wait=1&k=a") }}, func() { b.ok("/put?k=a&v=2") })
		old := b.clone()
		if loses {
			require.Equal(t, "1", b.ok("/get?k=a"))
			s.during([]func(){func() { b.clone().try("/read?wait=1&k=a") }}, func() { b.ok("/logout") })
			require.Equal(t, "1", old.ok("/get?k=a"))
			return
		}
		require.Equal(t, "2", b.ok("/get?k=a"))
		before := s.version(t)
		for range 50 {
			require.Equal(t, "2", b.ok("/read?k=a"))
		}
		require.Equal(t, before, s.version(t), "reading writes nothing")
		require.Zero(t, s.gone())
		s.during([]func(){func() { b.clone().try("/read?wait=1&k=a") }}, func() { b.ok("/logout") })
		require.Empty(t, old.ok("/get?k=a"))
		require.Equal(t, 1, s.gone())
	})
}

// version returns that of the only session.
func (s *site) version(t *testing.T) (v uint64) {
	t.Helper()
	n := 0
	for info, err := range s.engine.All(ctx) {
		require.NoError(t, err)
		v = info.Version
		n++
	}
	require.Equal(t, 1, n)
	return v
}

// A slow request with the old cookie lies over a login.
func TestRenewalKillsTheOldToken(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=lang&v=en")
		old := b.clone()
		s.during([]func(){
			func() { b.clone().try("/put?wait=1&k=cart&v=3") },
			func() { b.clone().try("/logout?wait=1") }, // from a page of before the login
		}, func() { b.ok("/login?user=ann") })
		if loses {
			// The old session stays, and takes part in neither.
			require.Empty(t, b.ok("/get?k=cart"))
			require.Empty(t, old.ok("/get?k=user"))
			return
		}
		require.Equal(t, 2, s.gone())
		require.Equal(t, "ann", b.ok("/get?k=user"))
		require.Equal(t, "en", b.ok("/get?k=lang"))
		require.Empty(t, b.ok("/get?k=cart"))

		// The old cookie gives no access, makes no session, and sets no cookie that could overwrite the newer one.
		require.Empty(t, old.ok("/get?k=lang"))
		stale := old.clone()
		cookies := func() []*http.Cookie { return stale.Jar.Cookies(s.request("/").URL) }
		before := cookies()
		for _, path := range []string{"/put?k=a&v=1", "/logout", "/login?user=bob"} {
			code, _ := stale.try(path)
			require.Equal(t, http.StatusInternalServerError, code)
			require.Equal(t, before, cookies())
		}
		require.Equal(t, 5, s.gone())
		require.Equal(t, int64(1), s.engine.Stats().Sessions)
	})
}

func TestFlashes(t *testing.T) {
	both(t, func(t *testing.T, s *site, loses bool) {
		b := s.browser()
		b.ok("/put?k=a&v=1")
		flash := func(text string) func() {
			return func() { b.try("/flash?wait=1&text=" + text) }
		}
		s.during([]func(){flash("x"), flash("y"), flash("z")}, nil)
		if loses {
			require.Len(t, b.ok("/flashes"), len("[x]"))
			return
		}
		require.Equal(t, "[x y z]", b.ok("/flashes"))
		require.Equal(t, "[]", b.ok("/flashes"))

		// One that is added while others are taken is not taken with them.
		b.ok("/flash?text=first")
		var taken string
		s.during([]func(){func() { _, taken = b.try("/flashes?wait=1") }}, func() { b.ok("/flash?text=second") })
		require.Equal(t, "[first]", taken)
		require.Equal(t, "[second]", b.ok("/flashes"))
		require.Equal(t, "[]", b.ok("/flashes"))
		require.NoError(t, s.engine.View(ctx, s.id(), func(tx sessile.Txn) error {
			require.Equal(t, 1, tx.Len(), "no empty list is left")
			return nil
		}))
	})
}

func (s *site) id() string {
	for info, err := range s.engine.All(ctx) {
		require.NoError(s.t, err)
		return info.ID
	}
	return ""
}
