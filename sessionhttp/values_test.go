package sessionhttp_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

func TestFlash(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	s := e.Session("a")
	require.NoError(t, e.CreateID(ctx, "a", func(tx sessile.Txn) error {
		for i := range 20 {
			require.NoError(t, sessionhttp.AddFlash(tx, sessionhttp.Flash{Kind: "info", Text: fmt.Sprint(i)}))
		}
		require.Zero(t, tx.Len(), "it is none of the application's keys")
		return nil
	}))
	var popped atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			require.NoError(t, s.Update(ctx, func(tx sessile.Txn) error {
				all, err := sessionhttp.PopFlashes(tx)
				popped.Add(int64(len(all)))
				if len(all) > 0 {
					require.Equal(t, sessionhttp.Flash{Kind: "info", Text: "4"}, all[0])
				}
				return err
			}))
		})
	}
	wg.Wait()
	require.EqualValues(t, 16, popped.Load(), "each once, and the oldest gone")
}

func TestFlows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, sessile.Options{})
		defer e.Close()
		update := func(fn func(sessile.Txn) error) { require.NoError(t, e.Upsert(ctx, "a", fn)) }
		begin := func(state string) (token string) {
			update(func(tx sessile.Txn) (err error) {
				token, err = sessionhttp.BeginFlow(tx, "oauth", time.Minute, []byte(state))
				return err
			})
			return token
		}
		take := func(name, token string) (state string, ok bool) {
			update(func(tx sessile.Txn) error {
				b, found, err := sessionhttp.TakeFlow(tx, name, token)
				state, ok = string(b), found
				return err
			})
			return state, ok
		}
		one, two := begin("tab one"), begin("tab two")
		state, ok := take("oauth", two)
		require.True(t, ok)
		require.Equal(t, "tab two", state)
		_, ok = take("oauth", two)
		require.False(t, ok, "once")
		_, ok = take("form", one)
		require.False(t, ok, "of another name")
		_, ok = take("oauth", "made up")
		require.False(t, ok)
		update(func(tx sessile.Txn) error {
			v, _ := tx.Peek("\x00http.flow")
			require.NotContains(t, string(v), one, "it is kept as a hash")
			return nil
		})
		time.Sleep(time.Minute)
		_, ok = take("oauth", one)
		require.False(t, ok, "too old")
		first := begin("first")
		for i := range 16 {
			begin(fmt.Sprint(i))
		}
		_, ok = take("oauth", first)
		require.False(t, ok, "too many")

		// A login drops them.
		m, err := sessionhttp.New(e, sessionhttp.Options{})
		require.NoError(t, err)
		token := begin("before")
		var cookie string
		update(func(tx sessile.Txn) (err error) { cookie, err = tx.NewToken(sessile.TokenLogin); return err })
		set := 0
		s, err := m.Open(ctx, []string{"__Host-id=" + cookie}, setCounter(&set))
		require.NoError(t, err)
		require.NoError(t, s.Login(ctx, "ann", nil))
		require.Equal(t, 1, set)
		_, ok = take("oauth", token)
		require.False(t, ok)
	})
}

func TestOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := openEngine(t, sessile.Options{})
		defer e.Close()
		once := func(key string) (first bool, err error) {
			err = e.Upsert(ctx, "a", func(tx sessile.Txn) (err error) {
				first, err = sessionhttp.Once(tx, key, time.Minute)
				return err
			})
			return first, err
		}
		n := 0
		for range 3 {
			first, err := once("order")
			require.NoError(t, err)
			if first {
				n++
			}
		}
		require.Equal(t, 1, n)
		time.Sleep(time.Minute)
		first, err := once("order")
		require.NoError(t, err)
		require.True(t, first)
		for i := range 63 {
			_, err := once(strings.Repeat("long key", 100) + fmt.Sprint(i))
			require.NoError(t, err)
		}
		_, err = once("one more")
		require.ErrorIs(t, err, sessile.ErrTooLarge)
		first, err = once("order")
		require.NoError(t, err)
		require.False(t, first, "those that it knows stay known")
	})
}
