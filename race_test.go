package sessile_test

import (
	"errors"
	"fmt"
	"math/rand"
	"sync"
	"sync/atomic"
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

// scale makes the long tests shorter under the race detector.
func scale(n int) int {
	if raceEnabled || testing.Short() {
		return n / 10
	}
	return n
}

// No increment is lost: on one session and on many, while sessions are evicted, expire,
// are written by checkpoints and are viewed.
func TestNoIncrementIsLost(t *testing.T) {
	for _, sessions := range []int{1, 1000} {
		t.Run(fmt.Sprint(sessions), func(t *testing.T) {
			e := open(t, sessile.Options{
				Dir: t.TempDir(), MaxMemory: 1 << 20, CheckpointInterval: 10 * time.Millisecond, FlushInterval: time.Millisecond,
			})
			ids := make([]string, sessions)
			for i := range ids {
				ids[i] = create(t, e, nil)
			}
			// Ten times more than fit, to push the others out, and some that expire.
			const cold = 20_000
			for i := range cold {
				require.NoError(t, e.CreateID(ctx, fmt.Sprint("cold", i), func(tx sessile.Txn) error {
					if i%10 == 0 {
						require.NoError(t, tx.SetIdleTimeout(50*time.Millisecond))
					}
					return tx.Set("pad", make([]byte, 300))
				}))
			}
			stop := make(chan struct{})
			var noise sync.WaitGroup
			noise.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					err := e.View(ctx, fmt.Sprint("cold", i*7919%cold), func(tx sessile.Txn) error { _, err := counter.Get(tx); return err })
					if err != nil && !errors.Is(err, sessile.ErrNotFound) {
						t.Error(err)
					}
				}
			})
			const goroutines = 64
			each := scale(10_000)
			var wg sync.WaitGroup
			for g := range goroutines {
				wg.Go(func() {
					for i := range each {
						if err := e.Update(ctx, ids[(g*each+i)%sessions], increment); err != nil {
							t.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			close(stop)
			noise.Wait()
			total := int64(0)
			for _, id := range ids {
				total += read(t, e, id)
			}
			require.EqualValues(t, goroutines*each, total)
			stats := e.Stats()
			require.NotZero(t, stats.Evictions)
			require.NotZero(t, stats.Checkpoints)
		})
	}
}

// Money moves between sessions, and the sum is the same at every moment.
func TestTransfersKeepTheSum(t *testing.T) {
	eachMode(t, sessile.Options{CheckpointInterval: 10 * time.Millisecond}, func(t *testing.T, e *sessile.Engine) {
		const accounts, start = 20, 1000
		ids := make([]string, accounts)
		for i := range ids {
			ids[i] = create(t, e, func(tx sessile.Txn) error { return counter.Set(tx, start) })
		}
		stop := make(chan struct{})
		var sums sync.WaitGroup
		views := 0
		sums.Go(func() {
			for ; ; views++ {
				select {
				case <-stop:
					return
				default:
				}
				total := int64(0)
				err := e.ViewMany(ctx, ids, func(txs []sessile.Txn) error {
					for _, tx := range txs {
						v, err := counter.Get(tx)
						if err != nil {
							return err
						}
						total += v
					}
					return nil
				})
				if err != nil || total != accounts*start {
					t.Error(total, err)
					return
				}
			}
		})
		var wg sync.WaitGroup
		for g := range 64 {
			wg.Go(func() {
				r := rand.New(rand.NewSource(int64(g)))
				for range scale(500) {
					from, to := ids[r.Intn(accounts)], ids[r.Intn(accounts)]
					amount := int64(r.Intn(10))
					err := e.UpdateMany(ctx, []string{from, to}, func(txs []sessile.Txn) error {
						if _, err := sessile.Add(txs[0], counter, -amount); err != nil {
							return err
						}
						_, err := sessile.Add(txs[1], counter, amount)
						return err
					})
					if err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		close(stop)
		sums.Wait()
		require.NotZero(t, views)
	})
}

// Two fields that are always written together are never seen apart.
func TestViewsAreNotTorn(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for i := range scale(50_000) {
				err := e.Update(ctx, id, func(tx sessile.Txn) error {
					if err := tx.Set("a", fmt.Appendf(nil, "%08d", i)); err != nil {
						return err
					}
					if i%7 == 0 {
						if err := tx.Set("mid", make([]byte, i%50)); err != nil {
							return err
						}
					}
					return tx.Set("z", fmt.Appendf(nil, "%08d", i))
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
		for {
			err := e.View(ctx, id, func(tx sessile.Txn) error {
				a, _ := tx.Peek("a")
				z, _ := tx.Peek("z")
				if string(a) != string(z) {
					return fmt.Errorf("torn: %q %q", a, z)
				}
				return nil
			})
			require.NoError(t, err)
			select {
			case <-done:
				return
			default:
			}
		}
	})
}

// What was deleted stays deleted, whatever runs beside the Delete.
func TestNothingComesBack(t *testing.T) {
	e := open(t, sessile.Options{Dir: t.TempDir(), MaxMemory: 1 << 20, CheckpointInterval: 10 * time.Millisecond, FlushInterval: time.Millisecond})
	for round := range scale(300) {
		id := fmt.Sprint("r", round)
		require.NoError(t, e.CreateID(ctx, id, increment))
		var deleted sync.WaitGroup
		var wg sync.WaitGroup
		gone := make(chan struct{})
		for range 4 {
			wg.Go(func() {
				for {
					var after bool
					select {
					case <-gone:
						after = true
					default:
					}
					err := e.Update(ctx, id, increment)
					if after && !errors.Is(err, sessile.ErrNotFound) {
						t.Error("alive after its end:", err)
					}
					if after {
						return
					}
				}
			})
		}
		deleted.Go(func() {
			if err := e.Delete(ctx, id); err != nil {
				t.Error(err)
			}
			close(gone)
		})
		deleted.Wait()
		wg.Wait()
		require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrNotFound)
	}
}

// Changes go on for ever through a log and a memory that hold a fraction of
// them: no gate stays shut, nothing is lost, and the bounds hold.
func TestTightBounds(t *testing.T) {
	opt := sessile.Options{
		Dir: t.TempDir(), MaxMemory: 1 << 20, MaxLogBytes: 1 << 20, FlushInterval: time.Millisecond, CheckpointInterval: time.Hour,
	}
	e := open(t, opt)
	const sessions, goroutines = 3000, 8
	each := scale(10_000)
	var wg sync.WaitGroup
	var most atomic.Int64
	for g := range goroutines {
		wg.Go(func() {
			r := rand.New(rand.NewSource(int64(g)))
			for i := range each {
				id := fmt.Sprint(r.Intn(sessions))
				err := e.Upsert(ctx, id, func(tx sessile.Txn) error {
					if err := tx.Set("pad", make([]byte, r.Intn(1000))); err != nil {
						return err
					}
					return increment(tx)
				})
				if err != nil {
					t.Error(err)
					return
				}
				if i%100 == 0 {
					most.Store(max(most.Load(), e.Stats().LogBytes))
				}
			}
		})
	}
	wg.Wait()
	require.Less(t, most.Load(), int64(3<<20))
	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
	total := int64(0)
	for info, err := range e.All(ctx) {
		require.NoError(t, err)
		total += read(t, e, info.ID)
	}
	require.EqualValues(t, goroutines*each, total)
}
