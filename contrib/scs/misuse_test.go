package scsstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	scsstore "github.com/sessile-go/sessile/contrib/scs"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

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
