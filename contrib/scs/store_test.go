package scsstore_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alexedwards/scs/v2"
	scsstore "github.com/sessile-go/sessile/contrib/scs"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

type cart struct{ Items []string }

func init() { gob.Register(&cart{}) }

func newManager(t testing.TB, e *sessile.Engine, opt scsstore.Options) (*scs.SessionManager, *scsstore.Store) {
	t.Helper()
	sm := scs.New()
	return sm, attach(t, sm, e, opt)
}

func attach(t testing.TB, sm *scs.SessionManager, e *sessile.Engine, opt scsstore.Options) *scsstore.Store {
	t.Helper()
	store, err := scsstore.New(e, opt)
	require.NoError(t, err)
	sm.Store, sm.Codec = store, store.Codec()
	return store
}

func load(t testing.TB, sm *scs.SessionManager, token string) context.Context {
	t.Helper()
	ctx, err := sm.Load(context.Background(), token)
	require.NoError(t, err)
	return ctx
}

func commit(t testing.TB, sm *scs.SessionManager, ctx context.Context) (token string) {
	t.Helper()
	token, _, err := sm.Commit(ctx)
	require.NoError(t, err)
	return token
}

// request loads, runs fn, and commits what the manager wants committed.
func request(t testing.TB, sm *scs.SessionManager, token string, fn func(ctx context.Context)) string {
	t.Helper()
	ctx := load(t, sm, token)
	fn(ctx)
	if sm.Status(ctx) != scs.Modified {
		return token
	}
	return commit(t, sm, ctx)
}

func versionOf(t testing.TB, e *sessile.Engine, id string) (v uint64) {
	t.Helper()
	require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error { v = tx.Info().Version; return nil }))
	return v
}

func TestValuesOfAllKinds(t *testing.T) {
	e := openEngine(t)
	sm, store := newManager(t, e, scsstore.Options{})
	at := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	want := map[string]any{
		"string": "s", "": "empty", "\x00reserved": "fine", "int": -7, "int32": int32(5), "int64": int64(1) << 40, "true": true,
		"false": false, "bytes": []byte{0, 1}, "float": 1.5, "time": at, "cart": &cart{[]string{"a", "b"}},
		"map": map[string]int{"x": 1, "y": 2, "z": 3}, "nil": nil, "list": []any{"a", 1}, "uint": uint16(3),
	}
	token := request(t, sm, "", func(ctx context.Context) {
		for k, v := range want {
			sm.Put(ctx, k, v)
		}
	})
	request(t, sm, token, func(ctx context.Context) {
		require.Len(t, sm.Keys(ctx), len(want), "no hidden keys")
		for k, v := range want {
			require.Equal(t, v, sm.Get(ctx, k), k)
		}
	})

	// Committed without a change: nothing written. gob writes maps in random order.
	version := versionOf(t, e, store.ID(token))
	for range 20 {
		commit(t, sm, load(t, sm, token))
	}
	require.Equal(t, version, versionOf(t, e, store.ID(token)))

	// Changed in place.
	ctx := load(t, sm, token)
	sm.Get(ctx, "cart").(*cart).Items[1] = "c"
	sm.Get(ctx, "map").(map[string]int)["x"]++
	sm.GetBytes(ctx, "bytes")[0] = 9
	commit(t, sm, ctx)
	request(t, sm, token, func(ctx context.Context) {
		require.Equal(t, &cart{[]string{"a", "c"}}, sm.Get(ctx, "cart"))
		require.Equal(t, map[string]int{"x": 2, "y": 2, "z": 3}, sm.Get(ctx, "map"))
		require.Equal(t, []byte{9, 1}, sm.GetBytes(ctx, "bytes"))
	})
}

// Each verb of scs's, beside another request's writes.
func TestVerbsMerge(t *testing.T) {
	e := openEngine(t)
	sm, store := newManager(t, e, scsstore.Options{})
	sm.Cookie.Persist = false
	for name, c := range map[string]struct {
		slow func(ctx context.Context)
		want string
	}{
		"put":        {func(ctx context.Context) { sm.Put(ctx, "a", "2") }, "a=2 b=1 other=1"},
		"remove":     {func(ctx context.Context) { sm.Remove(ctx, "a") }, "b=1 other=1"},
		"pop":        {func(ctx context.Context) { require.Equal(t, "1", sm.PopString(ctx, "a")) }, "b=1 other=1"},
		"clear":      {func(ctx context.Context) { require.NoError(t, sm.Clear(ctx)) }, "other=1"},
		"remember":   {func(ctx context.Context) { sm.RememberMe(ctx, true) }, "__rememberMe=true a=1 b=1 other=1"},
		"same value": {func(ctx context.Context) { sm.Put(ctx, "a", "1") }, "a=1 b=1 other=1"},
		"renew": {func(ctx context.Context) { require.NoError(t, sm.RenewToken(ctx)); sm.Put(ctx, "a", "2") },
			"a=2 b=1 other=1"},
		"renew and remove": {func(ctx context.Context) { require.NoError(t, sm.RenewToken(ctx)); sm.Remove(ctx, "a") },
			"b=1"},
		"destroy and put": {func(ctx context.Context) { require.NoError(t, sm.Destroy(ctx)); sm.Put(ctx, "new", "1") },
			"new=1"},
		"destroy and put back": {func(ctx context.Context) { require.NoError(t, sm.Destroy(ctx)); sm.Put(ctx, "a", "1") },
			"a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1"); sm.Put(ctx, "b", "1") })
			slow := load(t, sm, token)
			request(t, sm, token, func(ctx context.Context) { sm.Put(ctx, "other", "1") })
			c.slow(slow)
			moved := commit(t, sm, slow)
			require.Equal(t, c.want, dump(t, sm, moved))
			if moved != token {
				require.Empty(t, dump(t, sm, token))
			}
			require.NoError(t, e.Delete(ctx, store.ID(moved)))
		})
	}
}

func dump(t testing.TB, sm *scs.SessionManager, token string) string {
	t.Helper()
	ctx := load(t, sm, token)
	var all []string
	for _, k := range sm.Keys(ctx) {
		all = append(all, fmt.Sprint(k, "=", sm.Get(ctx, k)))
	}
	return strings.Join(all, " ")
}

// One request may commit several times, and renew in between.
func TestSeveralCommits(t *testing.T) {
	e := openEngine(t)
	sm, store := newManager(t, e, scsstore.Options{})
	n := sessile.NewKey[int]("n")
	ctx := load(t, sm, "")
	sm.Put(ctx, "a", "1")
	first := commit(t, sm, ctx)
	require.NoError(t, e.Update(ctx, store.ID(first), func(tx sessile.Txn) error {
		require.NoError(t, tx.SetUser("ann"))
		return n.Set(tx, 42)
	}))
	sm.Put(ctx, "b", "1")
	sm.Remove(ctx, "a")
	require.Equal(t, first, commit(t, sm, ctx))
	require.Equal(t, "b=1", dump(t, sm, first))
	require.NoError(t, sm.RenewToken(ctx))
	second := commit(t, sm, ctx)
	require.NotEqual(t, first, second)
	sm.Put(ctx, "c", "1")
	require.Equal(t, second, commit(t, sm, ctx))
	require.Equal(t, "b=1 c=1", dump(t, sm, second))
	require.Empty(t, dump(t, sm, first))

	// The engine's own keys and the user have moved along.
	got, err := sessile.Read(ctx, e.Session(store.ID(second)), n)
	require.NoError(t, err)
	require.Equal(t, 42, got)
	ended, err := e.DeleteUser(ctx, "ann")
	require.NoError(t, err)
	require.Equal(t, 1, ended)
	sm.Put(ctx, "d", "1")
	_, _, err = sm.Commit(ctx)
	require.ErrorIs(t, err, scsstore.ErrGone)
	// Ended by the engine, and not by this request: there is nothing to move.
	require.NoError(t, sm.RenewToken(ctx))
	_, _, err = sm.Commit(ctx)
	require.ErrorIs(t, err, scsstore.ErrGone)
	require.NoError(t, sm.Destroy(ctx))
	sm.Put(ctx, "d", "1")
	require.Equal(t, "d=1", dump(t, sm, commit(t, sm, ctx)))
}

func TestMergeSession(t *testing.T) {
	sm, _ := newManager(t, openEngine(t), scsstore.Options{})
	a := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1"); sm.Put(ctx, "both", "a") })
	b := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "b", "1"); sm.Put(ctx, "both", "b") })
	slow := load(t, sm, a)
	request(t, sm, a, func(ctx context.Context) { sm.Put(ctx, "other", "1") })
	require.NoError(t, sm.MergeSession(slow, b))
	require.Equal(t, a, commit(t, sm, slow))
	require.Equal(t, "a=1 b=1 both=b other=1", dump(t, sm, a))
	require.Empty(t, dump(t, sm, b))
}

func TestIterate(t *testing.T) {
	e := openEngine(t)
	sm, store := newManager(t, e, scsstore.Options{})
	tokens := map[string]string{}
	for _, user := range []string{"ann", "bob", "eve"} {
		tokens[user] = request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "user", user) })
	}
	// Others' sessions in the engine are none of scs's.
	require.NoError(t, e.CreateID(ctx, "conversation:1", nil))
	require.NoError(t, e.CreateID(ctx, "scs:of somebody else", nil))
	other, _ := newManager(t, e, scsstore.Options{Prefix: "admin:"})
	request(t, other, "", func(ctx context.Context) { other.Put(ctx, "user", "root") })

	seen := map[string]string{}
	require.NoError(t, sm.Iterate(ctx, func(ctx context.Context) error {
		user := sm.GetString(ctx, "user")
		seen[user] = sm.Token(ctx)
		switch user {
		case "ann":
			return sm.Destroy(ctx)
		case "bob":
			sm.Put(ctx, "noted", "1")
			_, _, err := sm.Commit(ctx)
			return err
		}
		return nil
	}))
	require.Len(t, seen, 3)
	require.Empty(t, dump(t, sm, tokens["ann"]))
	require.Equal(t, "noted=1 user=bob", dump(t, sm, tokens["bob"]))
	require.Equal(t, "user=eve", dump(t, sm, tokens["eve"]))
	// What Iterate shows is no token, and neither is the id.
	for _, name := range seen {
		require.Empty(t, dump(t, sm, name))
	}
	require.Empty(t, dump(t, sm, store.ID(tokens["bob"])))
	all, err := store.All()
	require.NoError(t, err)
	require.Len(t, all, 2)
}

// tick is how late the engine may see an expiry.
const tick = 10 * time.Millisecond

func TestExpiry(t *testing.T) {
	sm := scs.New() // starts a goroutine that nobody can stop
	synctest.Test(t, func(t *testing.T) {
		// The engine's own timeouts do not shorten what scs promises.
		e, err := sessile.Open(sessile.Options{InMemory: true, IdleTimeout: time.Minute, Lifetime: time.Minute})
		require.NoError(t, err)
		defer func() { require.NoError(t, e.Close()) }()
		store := attach(t, sm, e, scsstore.Options{})
		sm.Lifetime = 24 * time.Hour
		put := func(ctx context.Context) { sm.Put(ctx, "a", "1") }
		alive := func(token string) bool { return dump(t, sm, token) != "" }

		token := request(t, sm, "", put)
		deadline := sm.Deadline(load(t, sm, token))
		require.True(t, deadline.Equal(time.Now().Add(24*time.Hour)), "to the nanosecond")
		time.Sleep(24*time.Hour - time.Second)
		require.True(t, alive(token))
		time.Sleep(time.Second + tick)
		require.False(t, alive(token))

		// With an idle timeout each request extends it, up to the deadline.
		sm.IdleTimeout, sm.Lifetime = time.Hour, 4*time.Hour
		token = request(t, sm, "", put)
		version := versionOf(t, e, store.ID(token))
		for range 5 {
			time.Sleep(45 * time.Minute)
			require.True(t, alive(token))
			request(t, sm, token, func(context.Context) {})
		}
		require.Equal(t, version, versionOf(t, e, store.ID(token)), "without writing anything")
		time.Sleep(15*time.Minute + tick)
		require.False(t, alive(token))
		token = request(t, sm, "", put)
		time.Sleep(time.Hour + time.Second)
		require.False(t, alive(token))

		// The manager's timeout may change, or go.
		token = request(t, sm, "", put)
		sm.IdleTimeout = 2 * time.Hour
		request(t, sm, token, func(context.Context) {})
		time.Sleep(90 * time.Minute)
		require.True(t, alive(token))
		sm.IdleTimeout = 0
		request(t, sm, token, put)
		time.Sleep(2*time.Hour + 29*time.Minute)
		require.True(t, alive(token))
		time.Sleep(2 * time.Minute)
		require.False(t, alive(token))

		// A new deadline, also one that has passed.
		token = request(t, sm, "", put)
		slow := load(t, sm, token)
		request(t, sm, token, func(ctx context.Context) { sm.SetDeadline(ctx, time.Now().Add(10*time.Hour)) })
		sm.Put(slow, "b", "1")
		commit(t, sm, slow)
		time.Sleep(9 * time.Hour)
		require.True(t, alive(token), "a request that did not change the deadline does not set it back")
		request(t, sm, token, func(ctx context.Context) { sm.SetDeadline(ctx, time.Time{}) })
		require.False(t, alive(token))
	})
}

// What the request began goes on when the browser has gone: a renewal would else lose the session.
func TestCancelledRequest(t *testing.T) {
	sm, _ := newManager(t, openEngine(t), scsstore.Options{})
	token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1") })
	base, cancel := context.WithCancel(context.Background())
	ctx, err := sm.Load(base, token)
	require.NoError(t, err)
	require.NoError(t, sm.RenewToken(ctx))
	cancel()
	token = commit(t, sm, ctx)
	require.Equal(t, "a=1", dump(t, sm, token))
	require.NoError(t, sm.Destroy(ctx))
	require.Empty(t, dump(t, sm, token))
}

// A callback that holds the session does not keep anyone from logging out.
func TestDestroyOverCallback(t *testing.T) {
	e := openEngine(t)
	sm, store := newManager(t, e, scsstore.Options{})
	token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1") })
	in, out, ended := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		ended <- e.Update(ctx, store.ID(token), func(tx sessile.Txn) error {
			close(in)
			<-out
			return tx.Set("late", nil)
		})
	}()
	<-in
	require.NoError(t, sm.Destroy(load(t, sm, token)))
	require.Empty(t, dump(t, sm, token))
	close(out)
	require.ErrorIs(t, <-ended, sessile.ErrNotFound)
}

// No token is on disk.
func TestTokensAreNotStored(t *testing.T) {
	dir := t.TempDir()
	e, err := sessile.Open(sessile.Options{Dir: dir})
	require.NoError(t, err)
	sm, store := newManager(t, e, scsstore.Options{})
	token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1") })
	require.NoError(t, e.Close())
	var data []byte
	require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		data = append(data, b...)
		return err
	}))
	require.True(t, bytes.Contains(data, []byte(store.ID(token))), "the search finds what is there")
	require.False(t, bytes.Contains(data, []byte(token)))

	e, err = sessile.Open(sessile.Options{Dir: dir})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	sm, _ = newManager(t, e, scsstore.Options{})
	require.Equal(t, "a=1", dump(t, sm, token))
}

// What a request loaded is forgotten with its values.
func TestLoadsAreForgotten(t *testing.T) {
	sm, store := newManager(t, openEngine(t), scsstore.Options{})
	token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1") })
	held := load(t, sm, token)
	for range 1000 {
		load(t, sm, token)
	}
	require.Eventually(t, func() bool {
		runtime.GC()
		return store.Loads() == 2 // by number and by map
	}, 10*time.Second, time.Millisecond)
	sm.Put(held, "b", "1")
	commit(t, sm, held)
	require.Equal(t, "a=1 b=1", dump(t, sm, token))
}

func TestEndingsAreBounded(t *testing.T) {
	sm, store := newManager(t, openEngine(t), scsstore.Options{})
	end := func(size int) {
		ctx := load(t, sm, request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", strings.Repeat("v", size)) }))
		require.NoError(t, sm.Destroy(ctx))
	}
	const size = 60 << 10
	for range scsstore.EndingBytesMax/size + 10 {
		end(size)
	}
	_, bytes := store.Endings()
	require.LessOrEqual(t, bytes, scsstore.EndingBytesMax)
	require.Greater(t, bytes, scsstore.EndingBytesMax-2*size)
	for n := range scsstore.EndingsMax + 10 {
		require.NoError(t, store.Delete(fmt.Sprint("no such ", n)))
	}
	n, bytes := store.Endings()
	require.Equal(t, scsstore.EndingsMax, n)
	require.Zero(t, bytes)
	synctest.Test(t, func(t *testing.T) {
		store, err := scsstore.New(openEngine(t), scsstore.Options{})
		require.NoError(t, err)
		require.NoError(t, store.Delete("a"))
		time.Sleep(scsstore.EndingAge)
		require.NoError(t, store.Delete("b"))
		n, _ := store.Endings()
		require.Equal(t, 1, n)
	})
}

// Who may move an ended session.
func TestEndingWinner(t *testing.T) {
	a, b := make(chan struct{}), make(chan struct{})
	wins := func(done <-chan struct{}, calls ...<-chan struct{}) bool {
		return scsstore.EndingWins(t, done, calls...)
	}
	require.True(t, wins(a, a))
	require.True(t, wins(b, a), "there was one call, so it was this request's, under a context derived from its own")
	require.True(t, wins(nil, nil))
	require.True(t, wins(a, a, b))
	require.False(t, wins(b, a, b))
	require.False(t, wins(nil, nil, nil))
	require.False(t, wins(nil, nil, a))
}
