package sessionhttp_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func TestMaxPerUser(t *testing.T) {
	ends := make(chan string, 8)
	e, err := sessile.Open(sessile.Options{InMemory: true, OnEnd: func(i sessile.Info, r sessile.Reason) { ends <- i.ID + " " + r.String() }})
	require.NoError(t, err)
	defer e.Close()
	m, err := sessionhttp.New(e, sessionhttp.Options{MaxPerUser: 2})
	require.NoError(t, err)
	var all []*sessionhttp.Session
	var ids []string
	for range 5 {
		n := 0
		s, err := m.Open(ctx, nil, setCounter(&n))
		require.NoError(t, err)
		require.NoError(t, s.Login(ctx, "ann", nil), "the newest is never the one that goes")
		require.LessOrEqual(t, e.Stats().Sessions, int64(2))
		all = append(all, s)
		require.NoError(t, s.View(ctx, func(tx sessile.Txn) error { ids = append(ids, tx.ID()); return nil }))
	}
	for i, s := range all[:3] {
		require.ErrorIs(t, s.View(ctx, nil), sessile.ErrEnded)
		require.Equal(t, ids[i]+" limit", <-ends, "the oldest first")
	}
	require.NoError(t, all[3].Login(ctx, "ann", nil), "again on its own session")
	require.NoError(t, all[4].View(ctx, nil))
	require.EqualValues(t, 2, e.Stats().Sessions)
	_, err = m.Issue(ctx, "bob", nil)
	require.NoError(t, err)
	require.EqualValues(t, 3, e.Stats().Sessions)
}

func TestRefuseOverLimit(t *testing.T) {
	s := newSite(t, sessionhttp.Options{MaxPerUser: 2, RefuseOverLimit: true})
	a, b, c := s.browser(), s.browser(), s.browser()
	a.ok("/login?user=ann")
	b.ok("/login?user=ann")
	c.ok("/add")
	for range 3 {
		code, _ := c.get("/login?user=ann")
		require.Equal(t, http.StatusConflict, code)
	}
	require.Equal(t, "1", c.ok("/n"))
	require.Equal(t, "", c.ok("/user"))
	a.ok("/login?user=ann") // one's own does not count
	c.ok("/login?user=bob")
	code, _ := c.get("/login?user=ann")
	require.Equal(t, http.StatusConflict, code)
	require.Equal(t, "bob", c.ok("/user"), "the change of user was refused whole")
	b.ok("/logout")
	c.ok("/login?user=ann")
}

// Many logins at once: beyond the maximum there is at most the one under way, and none when all have returned.
func TestMaxPerUserBesideOthers(t *testing.T) {
	const most = 3
	for _, refuse := range []bool{false, true} {
		e := openEngine(t, sessile.Options{})
		m, err := sessionhttp.New(e, sessionhttp.Options{MaxPerUser: most, RefuseOverLimit: refuse})
		require.NoError(t, err)
		for range 4 {
			var in, refused atomic.Int64
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() {
					_, err := m.Issue(ctx, "ann", nil)
					n := e.Stats().Sessions
					switch {
					case err == nil:
						in.Add(1)
					case refuse && sessionhttp.Status(err) == http.StatusConflict:
						refused.Add(1)
					default:
						t.Error(err)
					}
					if refuse && n > most || n > most+1 {
						t.Error(n, "sessions")
					}
				})
			}
			wg.Wait()
			require.EqualValues(t, most, e.Stats().Sessions)
			if refuse {
				require.EqualValues(t, most, in.Load())
				_, err := e.DeleteUser(ctx, "ann")
				require.NoError(t, err)
			} else {
				require.EqualValues(t, 8, in.Load())
			}
		}
	}
}

// A login inside another one's callback ends in an error, not in waiting for itself.
func TestMaxPerUserReentrance(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	for _, refuse := range []bool{false, true} {
		m, err := sessionhttp.New(e, sessionhttp.Options{MaxPerUser: 3, RefuseOverLimit: refuse})
		require.NoError(t, err)
		_, err = m.Issue(ctx, "ann", func(tx sessile.Txn) error {
			_, err := m.Issue(tx.Context(), "ann", nil)
			return err
		})
		require.ErrorIs(t, err, sessile.ErrReentrant)
	}
	require.Zero(t, e.Stats().Sessions)
}
