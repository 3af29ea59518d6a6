package sessile_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

func TestUpdateCommitsWhatItStaged(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, nil)
		require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
			require.Equal(t, id, tx.ID())
			require.NoError(t, tx.Set("b", []byte("2")))
			require.NoError(t, tx.Set("a", []byte("1")))
			require.NoError(t, tx.Set("c", nil))
			v, ok := tx.Get("b")
			require.True(t, ok)
			require.Equal(t, []byte("2"), v)
			require.Equal(t, 3, tx.Len())
			return tx.Delete("c")
		}))
		require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error {
			var keys []string
			for k, v := range tx.All() {
				keys = append(keys, k+"="+string(v))
			}
			require.Equal(t, []string{"a=1", "b=2"}, keys)
			require.Equal(t, 2, tx.Len())
			_, ok := tx.Get("c")
			require.False(t, ok)
			return nil
		}))
	})
}

// A value's length decides how it is written back; all ways must agree with a map.
func TestFieldsOfEveryLength(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, nil)
		model := map[string]string{}
		for i := range 600 {
			key := fmt.Sprintf("k%d", i*7%13)
			value := strings.Repeat("x", i*i%97)
			del := i%5 == 4
			require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
				if del {
					return tx.Delete(key)
				}
				require.NoError(t, tx.Set("other", []byte{byte(i)}))
				return tx.Set(key, []byte(value))
			}))
			if del {
				delete(model, key)
			} else {
				model[key], model["other"] = value, string([]byte{byte(i)})
			}
			require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error {
				require.Equal(t, len(model), tx.Len())
				for k, v := range tx.All() {
					require.Equal(t, model[k], string(v))
				}
				return nil
			}))
		}
	})
}

func TestRollback(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, increment)
		version := func() (v uint64) {
			require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error { v = tx.Info().Version; return nil }))
			return v
		}
		before := version()
		cause := errors.New("cause")
		err := e.Update(ctx, id, func(tx sessile.Txn) error { _ = increment(tx); return cause })
		require.True(t, err == cause, "the error comes back as it is")

		require.PanicsWithValue(t, "boom", func() {
			_ = e.Update(ctx, id, func(tx sessile.Txn) error { _ = increment(tx); panic("boom") })
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = e.Update(ctx, id, func(tx sessile.Txn) error { _ = increment(tx); runtime.Goexit(); return nil })
		}()
		<-done
		cancelled, cancel := context.WithCancel(ctx)
		err = e.Update(cancelled, id, func(tx sessile.Txn) error { cancel(); return increment(tx) })
		require.ErrorIs(t, err, context.Canceled)

		require.EqualValues(t, 1, read(t, e, id))
		require.Equal(t, before, version())
		require.NoError(t, e.Update(ctx, id, func(sessile.Txn) error { return nil }), "the session is free")
		require.Equal(t, before, version(), "nothing staged, no new version")
		require.NoError(t, e.Update(ctx, id, increment))
		require.Greater(t, version(), before)
	})
}

func TestCreate(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		require.NoError(t, e.CreateID(ctx, "user:42", func(tx sessile.Txn) error {
			require.Zero(t, tx.Info().Version)
			return increment(tx)
		}))
		require.ErrorIs(t, e.CreateID(ctx, "user:42", nil), sessile.ErrExists)
		require.EqualValues(t, 1, read(t, e, "user:42"))

		cause := errors.New("cause")
		id, err := e.Create(ctx, func(tx sessile.Txn) error { return cause })
		require.ErrorIs(t, err, cause)
		require.Empty(t, id)
		require.ErrorIs(t, e.CreateID(ctx, "x", func(sessile.Txn) error { return cause }), cause)
		require.ErrorIs(t, e.View(ctx, "x", nil), sessile.ErrNotFound)

		require.ErrorIs(t, e.Update(ctx, "new", increment), sessile.ErrNotFound)
		require.NoError(t, e.Upsert(ctx, "new", nil))
		require.NoError(t, e.Upsert(ctx, "new", increment))
		require.EqualValues(t, 1, read(t, e, "new"))

		long := strings.Repeat("i", sessile.MaxIDLen)
		require.NoError(t, e.CreateID(ctx, long, increment))
		require.NoError(t, e.Update(ctx, long, increment))
		require.EqualValues(t, 2, read(t, e, long))
	})
}

func TestViewSeesTheCommittedState(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, increment)
		require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
			require.NoError(t, increment(tx))
			return e.View(tx.Context(), id, func(inner sessile.Txn) error {
				v, err := counter.Get(inner)
				require.EqualValues(t, 1, v)
				return err
			})
		}))
		// A snapshot does not change under its reader.
		require.NoError(t, e.View(ctx, id, func(tx sessile.Txn) error {
			borrowed, _ := tx.Peek("counter")
			copied := bytes.Clone(borrowed)
			require.NoError(t, e.Update(ctx, id, increment))
			require.Equal(t, copied, borrowed)
			require.ErrorIs(t, tx.Set("x", nil), sessile.ErrReadOnly)
			require.ErrorIs(t, tx.Delete("x"), sessile.ErrReadOnly)
			require.ErrorIs(t, tx.Destroy(), sessile.ErrReadOnly)
			require.ErrorIs(t, tx.SetUser("x"), sessile.ErrReadOnly)
			return nil
		}))
		require.EqualValues(t, 3, read(t, e, id))
	})
}

func TestViewEmpty(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	require.NoError(t, e.CreateID(ctx, "a", nil))
	key := sessile.NewKey[int64]("n")
	var kept sessile.Txn
	require.NoError(t, e.ViewEmpty(ctx, func(tx sessile.Txn) error {
		kept = tx
		n, ok, err := key.Lookup(tx)
		require.NoError(t, err)
		require.False(t, ok)
		require.Zero(t, n)
		require.Zero(t, tx.Info())
		require.Empty(t, tx.ID())
		require.Zero(t, tx.Len())
		require.Zero(t, tx.Epoch())
		for range tx.All() {
			t.Error("it has no keys")
		}
		require.Zero(t, tx.Changes())
		require.ErrorIs(t, key.Set(tx, 1), sessile.ErrReadOnly)
		return e.View(tx.Context(), "a", nil)
	}))
	require.ErrorIs(t, key.Set(kept, 1), sessile.ErrTxnDone)
	require.EqualValues(t, 1, e.Stats().Sessions)
	cause := errors.New("cause")
	require.Equal(t, cause, e.ViewEmpty(ctx, func(sessile.Txn) error { return cause }))
	require.NoError(t, e.ViewEmpty(ctx, nil))
	gone, cancel := context.WithCancel(ctx)
	cancel()
	require.ErrorIs(t, e.ViewEmpty(gone, nil), context.Canceled)
	require.NoError(t, e.Close())
	require.ErrorIs(t, e.ViewEmpty(ctx, nil), sessile.ErrClosed)
}

func TestChanges(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	require.NoError(t, e.CreateID(ctx, "a", func(tx sessile.Txn) error {
		require.Zero(t, tx.Changes())
		require.NoError(t, tx.Delete("absent"))
		require.Zero(t, tx.Changes())
		for i, fn := range []func() error{
			func() error { return tx.Set("a", nil) },
			func() error { return tx.Set("\x00a", nil) },
			func() error { return tx.SetUser("u") },
			func() error { return tx.SetIdleTimeout(time.Hour) },
			func() error { _, err := tx.NewToken(sessile.TokenLogin); return err },
		} {
			require.NoError(t, fn())
			require.NoError(t, fn())
			require.Equal(t, i+1, tx.Changes())
		}
		require.NoError(t, tx.Delete("a"))
		require.Equal(t, 4, tx.Changes())
		return nil
	}))
	require.Zero(t, sessile.Txn{}.Changes())
}

func TestAllWhileChanging(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	id := create(t, e, func(tx sessile.Txn) error {
		for _, k := range []string{"a", "b", "c", "d"} {
			require.NoError(t, tx.Set(k, []byte(k)))
		}
		return tx.Set("\x00ours", nil)
	})
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
		require.NoError(t, tx.Set("bb", []byte("staged")))
		var keys []string
		for k, v := range tx.All() {
			keys = append(keys, k)
			was := string(v)
			require.NoError(t, tx.Delete("c"))
			require.NoError(t, tx.Set("e", nil))
			require.NoError(t, tx.Set(k, []byte("new")))
			require.Equal(t, was, string(v), "a borrowed value stays")
		}
		require.Equal(t, []string{"a", "b", "bb", "d", "e"}, keys)
		require.Equal(t, 5, tx.Len())
		return nil
	}))
}

func TestHandlesEndWithTheirCallback(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id, other := create(t, e, increment), create(t, e, increment)
		var kept []sessile.Txn
		keep := func(tx sessile.Txn) error { kept = append(kept, tx); return nil }
		require.NoError(t, e.Update(ctx, id, keep))
		require.NoError(t, e.View(ctx, id, keep))
		require.NoError(t, e.UpdateMany(ctx, []string{id}, func(txs []sessile.Txn) error { return keep(txs[0]) }))
		kept = append(kept, sessile.Txn{})
		late := func() {
			for _, tx := range kept {
				require.ErrorIs(t, tx.Set("x", nil), sessile.ErrTxnDone)
				require.ErrorIs(t, tx.Delete("x"), sessile.ErrTxnDone)
				require.ErrorIs(t, tx.Destroy(), sessile.ErrTxnDone)
				require.ErrorIs(t, tx.SetDeadline(time.Time{}), sessile.ErrTxnDone)
				_, ok := tx.Get("counter")
				require.False(t, ok)
				_, err := counter.Get(tx)
				require.ErrorIs(t, err, sessile.ErrTxnDone)
				_, err = tx.NewToken(sessile.TokenLogin)
				require.ErrorIs(t, err, sessile.ErrTxnDone)
				require.Zero(t, tx.Info())
				require.Zero(t, tx.Len())
				require.Zero(t, tx.ID())
				tx.Durable()
				tx.NoTouch()
				for range tx.All() {
					require.Fail(t, "a late handle yields")
				}
			}
		}
		late()
		// The states behind the handles are in use again, by other sessions.
		for range 200 {
			require.NoError(t, e.Update(ctx, other, func(sessile.Txn) error { late(); return nil }))
		}
	})
}

type ctxKey struct{}

func TestReentrance(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true, LockTimeout: 20 * time.Millisecond})
	other := open(t, sessile.Options{InMemory: true})
	id := create(t, e, nil)
	require.NoError(t, other.CreateID(ctx, "x", nil))
	var kept context.Context
	callback := func(tx sessile.Txn) error {
		kept = context.WithValue(tx.Context(), ctxKey{}, "v")
		require.ErrorIs(t, e.Update(kept, id, nil), sessile.ErrReentrant)
		require.ErrorIs(t, e.Upsert(kept, id, nil), sessile.ErrReentrant)
		require.ErrorIs(t, e.CreateID(kept, "y", nil), sessile.ErrReentrant)
		require.ErrorIs(t, e.Delete(kept, id), sessile.ErrReentrant)
		require.ErrorIs(t, e.Touch(kept, id), sessile.ErrReentrant)
		require.ErrorIs(t, e.Flush(kept), sessile.ErrReentrant)
		require.ErrorIs(t, e.Shutdown(kept), sessile.ErrReentrant)
		require.ErrorIs(t, e.UpdateMany(kept, []string{id}, nil), sessile.ErrReentrant)
		_, err := e.Wait(kept, id, 0)
		require.ErrorIs(t, err, sessile.ErrReentrant)
		_, err = e.DeleteUser(kept, "u")
		require.ErrorIs(t, err, sessile.ErrReentrant)
		for _, err := range e.All(kept) {
			require.ErrorIs(t, err, sessile.ErrReentrant)
		}
		require.NoError(t, e.View(kept, id, nil))
		return other.Update(kept, "x", nil)
	}
	require.NoError(t, e.Update(ctx, id, callback))
	require.NoError(t, e.View(ctx, id, callback))
	require.NoError(t, e.Update(kept, id, nil), "the callback has returned")
	// With a context of its own it waits for itself, no longer than LockTimeout.
	require.NoError(t, e.Update(ctx, id, func(sessile.Txn) error {
		require.ErrorIs(t, e.Update(ctx, id, nil), sessile.ErrBusy)
		return nil
	}))
	require.EqualValues(t, 1, e.Stats().LockTimeouts)
}

func TestLockWaits(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true, MaxWaiters: 3})
	id := create(t, e, nil)
	release := hold(t, e, id, nil)
	short, cancel := context.WithCancel(ctx)
	var order []int
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			c := ctx
			if i == 1 {
				c = short
			}
			err := e.Update(c, id, func(sessile.Txn) error { order = append(order, i); return nil })
			if i == 1 {
				require.ErrorIs(t, err, context.Canceled)
			} else {
				require.NoError(t, err)
			}
		})
		require.Eventually(t, func() bool { return e.Stats().LockWaits == uint64(i+1) }, 5*time.Second, time.Millisecond)
	}
	require.ErrorIs(t, e.Update(ctx, id, nil), sessile.ErrBusy)
	require.EqualValues(t, 1, e.Stats().LockRefusals)
	cancel()
	require.NoError(t, release())
	wg.Wait()
	require.Equal(t, []int{0, 2}, order, "arrival order")
}

// What is there already may change, but not grow, whether readers have it or not.
func TestALoweredLimit(t *testing.T) {
	dir := t.TempDir()
	e := open(t, sessile.Options{Dir: dir})
	id := create(t, e, func(tx sessile.Txn) error {
		return errors.Join(increment(tx), tx.Set("large", make([]byte, 3000)), tx.Set("other", make([]byte, 3000)))
	})
	require.NoError(t, e.Close())
	e = open(t, sessile.Options{Dir: dir, MaxSessionSize: 4096})
	for i := range 8 {
		require.NoError(t, e.Update(ctx, id, increment))
		for range i {
			require.EqualValues(t, i+2, read(t, e, id))
		}
	}
	err := e.Update(ctx, id, func(tx sessile.Txn) error { return tx.Set("more", nil) })
	require.ErrorIs(t, err, sessile.ErrTooLarge)
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error { return tx.Set("large", make([]byte, 2900)) }))
	require.EqualValues(t, 9, read(t, e, id))
}

func TestLimits(t *testing.T) {
	eachMode(t, sessile.Options{MaxSessionSize: 4096}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, increment)
		require.ErrorIs(t, e.Update(ctx, "", nil), sessile.ErrInvalidID)
		require.ErrorIs(t, e.View(ctx, strings.Repeat("x", 257), nil), sessile.ErrInvalidID)
		require.ErrorIs(t, e.Delete(ctx, ""), sessile.ErrInvalidID)
		require.ErrorIs(t, e.UpdateMany(ctx, []string{id, ""}, nil), sessile.ErrInvalidID)
		require.ErrorIs(t, e.ViewMany(ctx, make([]string, sessile.MaxIDs+1), nil), sessile.ErrTooLarge)
		require.NoError(t, e.UpdateMany(ctx, nil, func(txs []sessile.Txn) error { require.Empty(t, txs); return nil }))
		require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error {
			require.ErrorIs(t, tx.Set("", nil), sessile.ErrInvalidKey)
			require.ErrorIs(t, tx.Set(strings.Repeat("k", 256), nil), sessile.ErrInvalidKey)
			require.ErrorIs(t, tx.Set("\x00\x00u", nil), sessile.ErrInvalidKey)
			require.ErrorIs(t, tx.Set("big", make([]byte, 4097)), sessile.ErrTooLarge)
			require.ErrorIs(t, tx.SetUser(strings.Repeat("u", 257)), sessile.ErrInvalidID)
			require.Error(t, tx.SetIdleTimeout(time.Microsecond))
			_, err := tx.NewToken(0)
			require.Error(t, err)
			return tx.Set(strings.Repeat("k", 255), make([]byte, 1000))
		}))
		err := e.Update(ctx, id, func(tx sessile.Txn) error { return tx.Set("more", make([]byte, 3000)) })
		require.ErrorIs(t, err, sessile.ErrTooLarge)
		require.EqualValues(t, 1, read(t, e, id), "the session is unchanged")
		//lint:ignore SA1012 that is what is tried
		require.NoError(t, e.Update(nil, id, nil), "a nil context is the background")
	})
	for _, opt := range []sessile.Options{
		{}, {Dir: "x", InMemory: true}, {InMemory: true, IdleTimeout: -2}, {InMemory: true, MaxMemory: 1},
		{InMemory: true, FlushInterval: time.Hour}, {InMemory: true, MaxSessionSize: 1 << 20}, {InMemory: true, MaxAnonymous: -1},
		{Dir: "x", EncryptionKeys: [][]byte{{1}}}, {InMemory: true, LockTimeout: -1}, {InMemory: true, MaxWaiters: -1},
	} {
		_, err := sessile.Open(opt)
		require.ErrorContains(t, err, "Options.", "%+v", opt)
	}
}

func TestMaxMemoryInMemory(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true, MaxMemory: 1 << 20})
	var err error
	n := 0
	for ; err == nil && n < 10_000; n++ {
		err = e.Upsert(ctx, fmt.Sprint(n), func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 1000)) })
	}
	require.ErrorIs(t, err, sessile.ErrTooLarge)
	require.Less(t, n, 1100)
	require.NoError(t, e.Delete(ctx, "0"))
	require.NoError(t, e.Upsert(ctx, "again", func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 900)) }))
}

func TestDelete(t *testing.T) {
	var ends []string
	opt := sessile.Options{OnEnd: func(i sessile.Info, r sessile.Reason) { ends = append(ends, i.ID+" "+r.String()) }}
	eachMode(t, opt, func(t *testing.T, e *sessile.Engine) {
		ends = nil
		require.NoError(t, e.CreateID(ctx, "a", increment))
		release := hold(t, e, "a", increment)
		require.NoError(t, e.Delete(ctx, "a"), "it does not wait for the callback")
		require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
		require.ErrorIs(t, e.Touch(ctx, "a"), sessile.ErrNotFound)
		require.ErrorIs(t, release(), sessile.ErrNotFound)
		require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
		require.ErrorIs(t, e.Update(ctx, "a", increment), sessile.ErrNotFound)
		require.NoError(t, e.Delete(ctx, "a"), "again")
		require.NoError(t, e.Delete(ctx, "never"))

		var last uint64
		for range 3 {
			require.NoError(t, e.CreateID(ctx, "a", increment))
			require.EqualValues(t, 1, read(t, e, "a"))
			info, err := e.Wait(ctx, "a", last)
			require.NoError(t, err)
			require.Greater(t, info.Version, last, "versions never repeat")
			last = info.Version
			require.NoError(t, e.Update(ctx, "a", func(tx sessile.Txn) error {
				require.NoError(t, increment(tx))
				return tx.Destroy()
			}))
			require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
		}
		require.Equal(t, slices.Repeat([]string{"a deleted"}, 4), ends)
		require.Zero(t, e.Stats().Sessions)
	})
}

func TestMany(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		for _, id := range []string{"a", "b", "c"} {
			require.NoError(t, e.CreateID(ctx, id, nil))
		}
		ids := []string{"c", "a", "b", "a"}
		require.NoError(t, e.UpdateMany(ctx, ids, func(txs []sessile.Txn) error {
			for i, tx := range txs {
				require.Equal(t, ids[i], tx.ID())
				require.NoError(t, increment(tx))
			}
			v, err := counter.Get(txs[1])
			require.EqualValues(t, 2, v, "duplicates share a transaction")
			return err
		}))
		require.NoError(t, e.ViewMany(ctx, ids, func(txs []sessile.Txn) error {
			for i, want := range []int64{1, 2, 1, 2} {
				v, err := counter.Get(txs[i])
				require.NoError(t, err)
				require.Equal(t, want, v)
			}
			return nil
		}))
		err := e.UpdateMany(ctx, []string{"a", "gone"}, func([]sessile.Txn) error { require.Fail(t, "runs"); return nil })
		require.ErrorIs(t, err, sessile.ErrNotFound)
		require.ErrorContains(t, err, "gone")
		require.ErrorIs(t, e.ViewMany(ctx, []string{"a", "gone"}, nil), sessile.ErrNotFound)

		// One too large: none is changed. One ended meanwhile: none is changed.
		err = e.UpdateMany(ctx, []string{"a", "b"}, func(txs []sessile.Txn) error {
			require.NoError(t, increment(txs[0]))
			require.NoError(t, txs[1].Set("x", make([]byte, 40<<10)))
			return txs[1].Set("y", make([]byte, 40<<10))
		})
		require.ErrorIs(t, err, sessile.ErrTooLarge)
		err = e.UpdateMany(ctx, []string{"a", "c"}, func(txs []sessile.Txn) error {
			require.NoError(t, e.Delete(ctx, "c"))
			return errors.Join(increment(txs[0]), increment(txs[1]))
		})
		require.ErrorIs(t, err, sessile.ErrNotFound)
		require.EqualValues(t, 2, read(t, e, "a"))

		require.NoError(t, e.UpsertMany(ctx, []string{"a", "c", "d"}, func(txs []sessile.Txn) error {
			require.NoError(t, increment(txs[1]))
			return txs[0].Destroy()
		}))
		require.ErrorIs(t, e.View(ctx, "a", nil), sessile.ErrNotFound)
		require.EqualValues(t, 1, read(t, e, "c"))
		require.EqualValues(t, 0, read(t, e, "d"))
	})
}

func TestWait(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, nil)
		info, err := e.Wait(ctx, id, 0)
		require.NoError(t, err)
		type result struct {
			info sessile.Info
			err  error
		}
		results := make(chan result)
		wait := func(c context.Context, after uint64) {
			info, err := e.Wait(c, id, after)
			results <- result{info, err}
		}
		go wait(ctx, info.Version)
		require.NoError(t, e.Update(ctx, id, increment))
		r := <-results
		require.NoError(t, r.err)
		require.Greater(t, r.info.Version, info.Version)

		short, cancel := context.WithCancel(ctx)
		go wait(short, r.info.Version)
		cancel()
		require.ErrorIs(t, (<-results).err, context.Canceled)
		go wait(ctx, r.info.Version)
		require.NoError(t, e.Delete(ctx, id))
		require.ErrorIs(t, (<-results).err, sessile.ErrNotFound)
	})
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	opt := sessile.Options{Dir: dir}
	e := open(t, opt)
	_, err := sessile.Open(opt)
	require.ErrorIs(t, err, sessile.ErrDirLocked)
	id := create(t, e, increment)
	require.NoError(t, e.Update(ctx, id, func(tx sessile.Txn) error { tx.Durable(); return increment(tx) }))
	require.NoError(t, e.CreateID(ctx, "gone", nil))
	require.NoError(t, e.Delete(ctx, "gone"))
	info, err := e.Wait(ctx, id, 0)
	require.NoError(t, err)

	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
	require.EqualValues(t, 2, read(t, e, id))
	again, err := e.Wait(ctx, id, 0)
	require.NoError(t, err)
	require.Equal(t, info, again)
	require.ErrorIs(t, e.View(ctx, "gone", nil), sessile.ErrNotFound)
	require.NoError(t, e.Update(ctx, id, increment))
	again, err = e.Wait(ctx, id, 0)
	require.NoError(t, err)
	require.Greater(t, again.Version, info.Version)
}

func TestClose(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, nil)
		release := hold(t, e, id, increment)
		short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
		defer cancel()
		var incomplete *sessile.ShutdownError
		require.ErrorAs(t, e.Shutdown(short), &incomplete)
		require.Equal(t, 1, incomplete.Running)
		require.ErrorIs(t, incomplete, context.DeadlineExceeded)
		require.ErrorIs(t, e.Update(ctx, id, nil), sessile.ErrClosed)
		require.NoError(t, release(), "what began before is waited for")
		require.NoError(t, e.Close())
		require.NoError(t, e.Close(), "again")

		require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrClosed)
		require.ErrorIs(t, e.Upsert(ctx, id, nil), sessile.ErrClosed)
		require.ErrorIs(t, e.ViewMany(ctx, []string{id}, nil), sessile.ErrClosed)
		require.ErrorIs(t, e.Delete(ctx, id), sessile.ErrClosed)
		require.ErrorIs(t, e.Touch(ctx, id), sessile.ErrClosed)
		require.ErrorIs(t, e.Flush(ctx), sessile.ErrClosed)
		_, err := e.Create(ctx, nil)
		require.ErrorIs(t, err, sessile.ErrClosed)
		_, err = e.Wait(ctx, id, 0)
		require.ErrorIs(t, err, sessile.ErrClosed)
		_, err = e.Resolve(ctx, id+"."+strings.Repeat("A", 43))
		require.ErrorIs(t, err, sessile.ErrClosed)
		for _, err := range e.All(ctx) {
			require.ErrorIs(t, err, sessile.ErrClosed)
		}
		e.Stats()
	})
}

func TestCloseLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	e := open(t, sessile.Options{Dir: t.TempDir(), OnEnd: func(sessile.Info, sessile.Reason) {}})
	for i := range 100 {
		require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), func(tx sessile.Txn) error { return tx.SetIdleTimeout(10 * time.Millisecond) }))
		_ = e.View(ctx, fmt.Sprint("cold", i), nil)
	}
	require.NoError(t, e.Close())
	// The store's own goroutines may take a moment to be gone.
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before+1 }, 5*time.Second, time.Millisecond)
	var zero sessile.Session
	require.ErrorIs(t, zero.Update(ctx, nil), sessile.ErrClosed)
	require.ErrorIs(t, zero.View(ctx, nil), sessile.ErrClosed)
}

func TestEncryption(t *testing.T) {
	dir := t.TempDir()
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	e := open(t, sessile.Options{Dir: dir, EncryptionKeys: [][]byte{key(1)}})
	require.NoError(t, e.CreateID(ctx, "a", func(tx sessile.Txn) error { return errors.Join(tx.SetUser("ann"), increment(tx)) }))
	finish(t, e)
	for _, keys := range [][][]byte{nil, {key(2)}} {
		_, err := sessile.Open(sessile.Options{Dir: dir, EncryptionKeys: keys})
		require.ErrorIs(t, err, sessile.ErrUnsupported)
	}
	e = open(t, sessile.Options{Dir: dir, EncryptionKeys: [][]byte{key(2), key(1)}})
	require.EqualValues(t, 1, read(t, e, "a"))
	var users []string
	for info, err := range e.ByUser(ctx, "ann") {
		require.NoError(t, err)
		users = append(users, info.ID)
	}
	require.Equal(t, []string{"a"}, users)
	// Written anew, it needs the new key only.
	require.NoError(t, e.Update(ctx, "a", increment))
	finish(t, e)
	e = open(t, sessile.Options{Dir: dir, EncryptionKeys: [][]byte{key(2)}})
	require.EqualValues(t, 2, read(t, e, "a"))
}

// A key under which nothing is sealed any more can go, also when nothing was
// written since the new one came.
func TestKeyIsRetiredWithoutAWrite(t *testing.T) {
	dir := t.TempDir()
	key := func(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }
	for _, keys := range [][][]byte{{key(1)}, {key(2), key(1)}, {key(2)}} {
		e := open(t, sessile.Options{Dir: dir, EncryptionKeys: keys})
		if len(keys) == 1 && keys[0][0] == 1 {
			require.NoError(t, e.CreateID(ctx, "a", nil))
			require.NoError(t, e.Delete(ctx, "a"))
		}
		finish(t, e)
	}
}

func TestSlowTransactionIsCountedOnce(t *testing.T) {
	var log bytes.Buffer
	e := open(t, sessile.Options{InMemory: true, SlowTxn: time.Millisecond, Logger: slogTo(&log)})
	id := create(t, e, nil)
	release := hold(t, e, id, nil)
	require.Eventually(t, func() bool { return e.Stats().SlowTxns == 1 }, 5*time.Second, time.Millisecond)
	require.EqualValues(t, 1, e.Stats().Running)
	require.NoError(t, release())
	require.NoError(t, e.Close())
	require.Contains(t, log.String(), "helpers_test.go", "the log names the callback's place")
	require.EqualValues(t, 1, e.Stats().SlowTxns)
}
