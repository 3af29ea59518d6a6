package sessile_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// tick is how late expiry may be seen.
const tick = 5 * time.Millisecond

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		ends := map[string]sessile.Reason{}
		e, err := sessile.Open(sessile.Options{
			InMemory: true, IdleTimeout: time.Minute, Lifetime: 3 * time.Minute,
			OnEnd: func(i sessile.Info, r sessile.Reason) {
				mu.Lock()
				defer mu.Unlock()
				ends[i.ID] = r
			},
		})
		require.NoError(t, err)
		alive := func(id string) bool { return e.View(ctx, id, nil) == nil }
		start := time.Now()
		for _, id := range []string{"idle", "touched", "own", "forever", "deadline", "viewed", "quiet"} {
			require.NoError(t, e.CreateID(ctx, id, func(tx sessile.Txn) error {
				switch id {
				case "own":
					return tx.SetIdleTimeout(10 * time.Second)
				case "forever":
					require.NoError(t, tx.SetDeadline(start.Add(100*time.Hour)))
					return tx.SetIdleTimeout(sessile.NoTimeout)
				case "deadline":
					return tx.SetDeadline(start.Add(20 * time.Second))
				}
				return nil
			}))
		}
		time.Sleep(10*time.Second + 2*tick)
		require.False(t, alive("own"))
		require.True(t, alive("deadline"))
		time.Sleep(10 * time.Second)
		require.False(t, alive("deadline"))
		time.Sleep(30 * time.Second)
		require.NoError(t, e.Touch(ctx, "touched"))
		require.True(t, alive("viewed"))
		require.NoError(t, e.Update(ctx, "quiet", func(tx sessile.Txn) error { tx.NoTouch(); return increment(tx) }))
		time.Sleep(10*time.Second + 2*tick)
		require.False(t, alive("idle"))
		require.False(t, alive("viewed"), "a View does not touch")
		require.False(t, alive("quiet"), "nor does an Update with NoTouch")
		require.True(t, alive("touched"))
		for range 6 {
			time.Sleep(20 * time.Second)
			_ = e.Touch(ctx, "touched")
		}
		require.False(t, alive("touched"), "lifetime")
		require.ErrorIs(t, e.Update(ctx, "touched", nil), sessile.ErrNotFound)
		require.NoError(t, e.CreateID(ctx, "touched", nil), "its id is free again")
		time.Sleep(50 * time.Hour)
		require.True(t, alive("forever"))
		time.Sleep(50 * time.Hour)
		require.False(t, alive("forever"))
		synctest.Wait()
		mu.Lock()
		require.Len(t, ends, 7)
		for _, r := range ends {
			require.Equal(t, sessile.ReasonExpired, r)
		}
		mu.Unlock()
		require.Zero(t, e.Stats().Sessions)
		require.NoError(t, e.Close())
	})
}

// A session that expires under a callback is not brought back by its commit.
func TestExpiryDuringTheCallback(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true, IdleTimeout: time.Minute, LockTimeout: time.Hour})
		require.NoError(t, err)
		defer e.Close()
		id := create(t, e, nil)
		require.ErrorIs(t, e.Update(ctx, id, func(tx sessile.Txn) error {
			time.Sleep(time.Minute + 2*tick)
			require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrNotFound)
			return increment(tx)
		}), sessile.ErrNotFound)
		require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrNotFound)
	})
	// The same where nobody has noticed before the commit, which changes a value in place.
	synctest.Test(t, func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true, IdleTimeout: 20 * time.Millisecond})
		require.NoError(t, err)
		defer e.Close()
		for range 20 {
			id := create(t, e, increment)
			require.ErrorIs(t, e.Update(ctx, id, func(tx sessile.Txn) error {
				time.Sleep(20*time.Millisecond + 2*tick)
				return increment(tx)
			}), sessile.ErrNotFound)
		}
	})
}

func TestExpiredOnDisk(t *testing.T) {
	ended := make(chan sessile.Info, 100)
	opt := sessile.Options{Dir: t.TempDir(), IdleTimeout: 200 * time.Millisecond, OnEnd: func(i sessile.Info, r sessile.Reason) {
		if r == sessile.ReasonExpired {
			ended <- i
		}
	}}
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	for i := range 20 {
		require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), func(tx sessile.Txn) error { return tx.SetUser("ann") }))
	}
	require.NoError(t, e.Close())
	e = open(t, opt)
	seen := map[string]bool{}
	for len(seen) < 20 {
		i := <-ended // the sweeper finds them without being asked
		require.False(t, seen[i.ID])
		require.Equal(t, "ann", i.User)
		seen[i.ID] = true
	}
	require.Zero(t, e.Stats().Sessions)
	e = reopen(t, e, opt)
	require.NoError(t, sessile.CheckDisk(e))
}

// The watchdog watches a callback also when nothing else happens for long.
func TestSlowTransactionOnAnIdleEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, err := sessile.Open(sessile.Options{InMemory: true, SlowTxn: time.Minute})
		require.NoError(t, err)
		id := create(t, e, nil)
		require.NoError(t, e.Update(ctx, id, func(sessile.Txn) error {
			time.Sleep(50 * time.Second)
			require.Zero(t, e.Stats().SlowTxns)
			time.Sleep(50 * time.Second)
			require.EqualValues(t, 1, e.Stats().SlowTxns)
			return nil
		}))
		require.EqualValues(t, 1, e.Stats().SlowTxns)
		require.NoError(t, e.Close())
	})
}

// Time goes on after a crash from where it was, though the wall clock has been set back: a record on disk never
// says that its session was used in the future, also if it was touched and nothing has been logged since.
func TestTimeGoesOnAfterACrash(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := store.NewMem()
		opt := sessile.Options{Dir: "in memory", FlushInterval: time.Minute, CheckpointInterval: time.Hour}
		st, err := disk.Open()
		require.NoError(t, err)
		require.NoError(t, sessile.AdvanceClock(opt, st, time.Hour)) // as if the wall clock had been that far ahead
		require.NoError(t, st.Close())
		e := openDisk(t, disk, 0, opt)
		require.NoError(t, e.Upsert(ctx, "a", increment))
		sessile.Checkpoint(e)
		require.NoError(t, e.Update(ctx, "a", increment))
		require.NoError(t, e.Flush(ctx))
		time.Sleep(time.Second)
		require.NoError(t, e.Touch(ctx, "a"))
		disk.SetFault(func(ops []store.Op) store.Fault {
			if string(ops[0].Key) == "w" { // the checkpoint has written the record, and not yet its mark
				return store.FaultStall
			}
			return store.FaultNone
		})
		sessile.AskForCheckpoint(e)
		synctest.Wait()
		disk.Crash(0)
		_ = e.Close()
		disk.SetFault(nil)
		e = openDisk(t, disk, 0, opt)
		require.NoError(t, e.View(ctx, "a", func(tx sessile.Txn) error {
			require.False(t, tx.Info().LastSeen.After(sessile.EngineTime(e)), "%v, %v", tx.Info().LastSeen, sessile.EngineTime(e))
			return nil
		}))
		require.NoError(t, e.Close())
	})
}
