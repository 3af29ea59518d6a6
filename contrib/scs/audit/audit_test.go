package audit

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/stretchr/testify/require"
)

var errStore = errors.New("store")

// base is a store that fails, so that one sees which of its methods was called.
type base struct{}

func (base) Find(string) ([]byte, bool, error)      { return []byte("b"), true, errStore }
func (base) Commit(string, []byte, time.Time) error { return errStore }
func (base) Delete(string) error                    { return errStore }

type ctxKey struct{}

// inContext has the other methods, which want the caller's context.
type inContext struct{}

func (inContext) err(ctx context.Context) error {
	err, _ := ctx.Value(ctxKey{}).(error)
	return err
}
func (c inContext) FindCtx(ctx context.Context, _ string) ([]byte, bool, error) {
	return []byte("ctx"), true, c.err(ctx)
}
func (c inContext) CommitCtx(ctx context.Context, _ string, _ []byte, _ time.Time) error {
	return c.err(ctx)
}
func (c inContext) DeleteCtx(ctx context.Context, _ string) error { return c.err(ctx) }

type onlyFindCtx struct{}

func (onlyFindCtx) FindCtx(ctx context.Context, _ string) ([]byte, bool, error) {
	return inContext{}.FindCtx(ctx, "")
}

type iterates struct{}

func (iterates) All() (map[string][]byte, error) { return map[string][]byte{"all": nil}, errStore }

type iteratesCtx struct{}

func (iteratesCtx) AllCtx(ctx context.Context) (map[string][]byte, error) {
	return map[string][]byte{"allCtx": nil}, inContext{}.err(ctx)
}

// The wrapper has just the optional methods that the store has, and hands on arguments, results and errors.
func TestOptionalInterfaces(t *testing.T) {
	errCtx := errors.New("context")
	ctx := context.WithValue(context.Background(), ctxKey{}, errCtx)
	for name, store := range map[string]scs.Store{
		"plain": base{},
		"ctx": struct {
			base
			inContext
		}{},
		"find": struct {
			base
			onlyFindCtx
		}{},
		"all": struct {
			base
			iterates
		}{},
		"allCtx": struct {
			base
			iteratesCtx
		}{},
		"both": struct {
			base
			iterates
			iteratesCtx
		}{},
		"ctx all": struct {
			base
			inContext
			iterates
		}{},
		"ctx allCtx": struct {
			base
			inContext
			iteratesCtx
		}{},
		"ctx both": struct {
			base
			inContext
			iterates
			iteratesCtx
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			sm := scs.New()
			sm.Store = store
			Wrap(sm, Options{})
			w := sm.Store

			_, isCtx := store.(interface {
				FindCtx(context.Context, string) ([]byte, bool, error)
			})
			ctxStore, wrapsCtx := w.(scs.CtxStore)
			require.Equal(t, isCtx, wrapsCtx)
			iter, isIter := store.(scs.IterableStore)
			wrapped, wrapsIter := w.(scs.IterableStore)
			require.Equal(t, isIter, wrapsIter)
			iterCtx, isIterCtx := store.(scs.IterableCtxStore)
			wrappedCtx, wrapsIterCtx := w.(scs.IterableCtxStore)
			require.Equal(t, isIterCtx, wrapsIterCtx)

			_, _, err := w.Find("t")
			require.Equal(t, errStore, err)
			require.Equal(t, errStore, w.Commit("t", []byte("b"), time.Time{}))
			require.Equal(t, errStore, w.Delete("t"))
			if isCtx {
				b, _, err := ctxStore.FindCtx(ctx, "t")
				require.Equal(t, errCtx, err)
				require.Equal(t, "ctx", string(b))
				want := errCtx
				if name == "find" {
					want = errStore // scs would call the method without a context
				}
				require.Equal(t, want, ctxStore.CommitCtx(ctx, "t", nil, time.Time{}))
				require.Equal(t, want, ctxStore.DeleteCtx(ctx, "t"))
			}
			if isIter {
				all, err := iter.All()
				got, gotErr := wrapped.All()
				require.Equal(t, all, got)
				require.Equal(t, err, gotErr)
			}
			if isIterCtx {
				all, err := iterCtx.AllCtx(ctx)
				got, gotErr := wrappedCtx.AllCtx(ctx)
				require.Equal(t, all, got)
				require.Equal(t, err, gotErr)
			}
		})
	}
}

// What is stored, and what is read back, is what it would be without an audit.
func TestPassesDataThrough(t *testing.T) {
	inner := memstore.NewWithCleanupInterval(0)
	sm := scs.New()
	sm.Store = inner
	a := Wrap(sm, Options{})

	ctx, err := sm.Load(context.Background(), "")
	require.NoError(t, err)
	sm.Put(ctx, "k", "v")
	token, expiry, err := sm.Commit(ctx)
	require.NoError(t, err)

	stored, ok, err := inner.Find(token)
	require.NoError(t, err)
	require.True(t, ok)
	deadline, values, err := scs.GobCodec{}.Decode(stored)
	require.NoError(t, err)
	require.True(t, expiry.Equal(deadline))
	require.Equal(t, map[string]any{"k": "v"}, values)

	found, ok, err := sm.Store.Find(token)
	require.NoError(t, err)
	require.True(t, ok)
	require.Equal(t, stored, found)
	n := 0
	require.NoError(t, sm.Iterate(context.Background(), func(ctx context.Context) error {
		n++
		require.Equal(t, "v", sm.GetString(ctx, "k"))
		return sm.Destroy(ctx)
	}))
	require.Equal(t, 1, n)
	_, ok, err = inner.Find(token)
	require.NoError(t, err)
	require.False(t, ok)
	require.Equal(t, uint64(1), a.Stats().Deletions)
}
