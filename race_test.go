package sessile_test

import (
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

func TestMixedLoad(t *testing.T) {
	dir := t.TempDir()
	ends := sync.Map{}
	opt := sessile.Options{Dir: dir, MaxMemory: 1 << 20, CheckpointInterval: 10 * time.Millisecond, FlushInterval: time.Millisecond, IdleTimeout: sessile.NoTimeout,
		OnEnd: func(i sessile.Info, r sessile.Reason) {
			if _, dup := ends.LoadOrStore(i.ID+fmt.Sprint(i.Version), r); dup {
				t.Error("ended twice", i)
			}
		}}
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	const N = 6000
	for i := range N {
		require.NoError(t, e.CreateID(ctx, fmt.Sprint("s", i), func(tx sessile.Txn) error {
			if i%3 == 0 {
				if err := tx.SetUser(fmt.Sprint("u", i%50)); err != nil {
					return err
				}
			}
			return tx.Set("pad", make([]byte, 300))
		}))
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			r := rand.New(rand.NewSource(rand.Int63()))
			for range 3000 {
				id := fmt.Sprint("s", r.Intn(N))
				var err error
				switch r.Intn(12) {
				case 0:
					err = e.Delete(ctx, id)
				case 1:
					err = e.Upsert(ctx, id, func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, r.Intn(600))) })
				case 2:
					err = e.View(ctx, id, func(tx sessile.Txn) error { counter.Get(tx); return nil })
				case 3:
					err = e.UpdateMany(ctx, []string{id, fmt.Sprint("s", r.Intn(N)), id}, func(txs []sessile.Txn) error {
						for _, tx := range txs[1:] {
							if err := increment(tx); err != nil {
								return err
							}
						}
						return nil
					})
				case 4:
					err = e.Update(ctx, id, func(tx sessile.Txn) error { return tx.SetUser(fmt.Sprint("u", r.Intn(50))) })
				case 5:
					err = e.Touch(ctx, id)
				case 6:
					if r.Intn(100) == 0 {
						_, err = e.DeleteUser(ctx, fmt.Sprint("u", r.Intn(50)))
					}
				case 7:
					err = e.Update(ctx, id, func(tx sessile.Txn) error { tx.Durable(); return tx.Delete("pad") })
				case 8:
					err = e.UpsertMany(ctx, []string{id, fmt.Sprint("s", r.Intn(N))}, func(txs []sessile.Txn) error {
						if r.Intn(4) == 0 {
							return txs[1].Destroy()
						}
						return increment(txs[0])
					})
				default:
					err = e.Update(ctx, id, increment)
				}
				if err != nil && !errors.Is(err, sessile.ErrNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	require.NoError(t, sessile.Check(e))
	count := 0
	for _, err := range e.All(ctx) {
		require.NoError(t, err)
		count++
	}
	st := e.Stats()
	t.Logf("%+v", st)
	require.EqualValues(t, st.Sessions, count)
	byUser := 0
	for i := range 50 {
		for info, err := range e.ByUser(ctx, fmt.Sprint("u", i)) {
			require.NoError(t, err)
			require.Equal(t, fmt.Sprint("u", i), info.User)
			byUser++
		}
	}
	require.EqualValues(t, st.Sessions-st.Anonymous, byUser)
	require.NoError(t, e.Close())
	e, err = sessile.Open(opt)
	require.NoError(t, err)
	require.NoError(t, sessile.CheckDisk(e))
	require.EqualValues(t, st.Sessions, e.Stats().Sessions)
	require.NoError(t, e.Close())
}
