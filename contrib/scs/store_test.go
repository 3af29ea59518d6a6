package scsstore_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
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
	"github.com/alexedwards/scs/v2/memstore"
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

func TestMisuse(t *testing.T) {
	e := openEngine(t)
	t.Run("options", func(t *testing.T) {
		_, err := scsstore.New(nil, scsstore.Options{})
		require.Error(t, err)
		_, err = scsstore.New(e, scsstore.Options{Prefix: strings.Repeat("p", 250)})
		require.ErrorContains(t, err, "Prefix")
	})
	t.Run("codec forgotten", func(t *testing.T) {
		sm, _ := newManager(t, e, scsstore.Options{})
		sm.Codec = scs.GobCodec{}
		ctx := load(t, sm, "")
		sm.Put(ctx, "a", "1")
		_, _, err := sm.Commit(ctx)
		require.ErrorIs(t, err, scsstore.ErrCodec)
	})
	t.Run("store forgotten", func(t *testing.T) {
		sm, _ := newManager(t, e, scsstore.Options{})
		sm.Store = memstore.NewWithCleanupInterval(0)
		ctx := load(t, sm, "")
		sm.Put(ctx, "a", "1")
		token, _, err := sm.Commit(ctx)
		require.NoError(t, err)
		_, err = sm.Load(context.Background(), token)
		require.ErrorIs(t, err, scsstore.ErrCodec)
	})
	t.Run("another store's codec", func(t *testing.T) {
		sm, _ := newManager(t, e, scsstore.Options{})
		_, other := newManager(t, e, scsstore.Options{})
		sm.Codec = other.Codec()
		ctx := load(t, sm, "")
		sm.Put(ctx, "a", "1")
		_, _, err := sm.Commit(ctx)
		require.ErrorIs(t, err, scsstore.ErrCodec)
	})
	t.Run("direct calls", func(t *testing.T) {
		_, store := newManager(t, e, scsstore.Options{})
		require.ErrorIs(t, store.Commit("t", nil, time.Now()), scsstore.ErrCodec)
		_, _, err := store.Codec().Decode(nil)
		require.ErrorIs(t, err, scsstore.ErrCodec)
		_, err = store.Codec().Encode(time.Now(), nil)
		require.Error(t, err)
		require.NoError(t, store.Delete("no such"))
		_, found, err := store.Find("no such")
		require.NoError(t, err)
		require.False(t, found)
		values, others := map[string]any{}, map[string]any{"a": 1} // scs keeps its values until the commit
		defer runtime.KeepAlive(values)
		defer runtime.KeepAlive(others)
		deadline := time.Now().Add(time.Hour)
		b, err := store.Codec().Encode(deadline, values)
		require.NoError(t, err)
		require.NoError(t, store.Commit("t", b, deadline))
		require.ErrorIs(t, store.Commit("t", b, deadline), scsstore.ErrCodec, "a save is committed once")
		// Values that came from elsewhere must not take the session over.
		b, err = store.Codec().Encode(deadline, others)
		require.NoError(t, err)
		require.ErrorIs(t, store.Commit("t", b, deadline), scsstore.ErrCodec)
	})
	t.Run("damaged", func(t *testing.T) {
		sm, store := newManager(t, e, scsstore.Options{})
		token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", "1"); sm.Put(ctx, "b", 1) })
		b, _, err := store.Find(token)
		require.NoError(t, err)
		for n := range len(b) {
			_, _, err := store.Codec().Decode(b[:n])
			if err == nil { // cut between two fields
				_, values, _ := store.Codec().Decode(b[:n])
				require.Less(t, len(values), 2)
			}
		}
	})
	t.Run("values", func(t *testing.T) {
		type unregistered struct{ A int }
		sm, store := newManager(t, e, scsstore.Options{})
		ctx := load(t, sm, "")
		for _, v := range []any{unregistered{1}, func() {}, make(chan int)} {
			sm.Put(ctx, "a", v)
			_, _, err := sm.Commit(ctx)
			require.ErrorContains(t, err, `"scs.a"`)
		}
		sm.Put(ctx, "a", strings.Repeat("v", 65<<10))
		_, _, err := sm.Commit(ctx)
		require.ErrorIs(t, err, sessile.ErrTooLarge)
		sm.Put(ctx, "a", "1")
		sm.Put(ctx, strings.Repeat("k", scsstore.MaxKeyLen+1), "1")
		_, _, err = sm.Commit(ctx)
		require.ErrorIs(t, err, sessile.ErrInvalidKey)
		sm.Remove(ctx, strings.Repeat("k", scsstore.MaxKeyLen+1))
		sm.Put(ctx, strings.Repeat("k", scsstore.MaxKeyLen), "1")
		token := commit(t, sm, ctx)
		require.Len(t, sm.Keys(load(t, sm, token)), 2)
		_ = store
	})
	t.Run("closed", func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true})
		require.NoError(t, err)
		sm, store := newManager(t, e, scsstore.Options{})
		ctx := load(t, sm, "")
		sm.Put(ctx, "a", "1")
		token := commit(t, sm, ctx)
		require.NoError(t, e.Close())
		_, err = sm.Load(context.Background(), token)
		require.ErrorIs(t, err, sessile.ErrClosed)
		sm.Put(ctx, "a", "2")
		_, _, err = sm.Commit(ctx)
		require.ErrorIs(t, err, sessile.ErrClosed)
		require.ErrorIs(t, sm.Destroy(ctx), sessile.ErrClosed)
		_, err = store.All()
		require.ErrorIs(t, err, sessile.ErrClosed)
	})
}

// A value that cannot be decoded counts as absent, survives commits and renewals, and does not keep anyone from logging out.
func TestUndecodable(t *testing.T) {
	e := openEngine(t)
	errBroken := errors.New("broken")
	strict := false
	sm, store := newManager(t, e, scsstore.Options{OnDecodeError: func(id, key string, err error) error {
		require.Equal(t, "a", key)
		require.Contains(t, id, "scs:")
		if strict {
			return fmt.Errorf("%w: %w", errBroken, err)
		}
		return nil
	}})
	token := request(t, sm, "", func(ctx context.Context) { sm.Put(ctx, "a", 1); sm.Put(ctx, "b", 2) })
	broken := []byte("g not a gob")
	require.NoError(t, e.Update(ctx, store.ID(token), func(tx sessile.Txn) error { return tx.Set("scs.a", broken) }))
	token = request(t, sm, token, func(ctx context.Context) {
		require.Equal(t, []string{"b"}, sm.Keys(ctx))
		sm.Put(ctx, "c", 3)
	})
	token = request(t, sm, token, func(ctx context.Context) { require.NoError(t, sm.RenewToken(ctx)) })
	require.NoError(t, e.View(ctx, store.ID(token), func(tx sessile.Txn) error {
		v, _ := tx.Get("scs.a")
		require.True(t, bytes.Equal(broken, v))
		return nil
	}))
	strict = true
	_, err := sm.Load(context.Background(), token)
	require.ErrorIs(t, err, errBroken)
	strict = false
	request(t, sm, token, func(ctx context.Context) { sm.Put(ctx, "a", 4) })
	require.Equal(t, "a=4 b=2 c=3", dump(t, sm, token))
	require.NoError(t, sm.Destroy(load(t, sm, token)))
	require.Empty(t, dump(t, sm, token))
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
