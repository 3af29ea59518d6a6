package sessile_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// A session ended unseen, created anew, moved, and ended again, is counted once.
func TestEndedUnseenThenMoved(t *testing.T) {
	for _, moves := range []bool{false, true} {
		name := "stays"
		if moves {
			name = "moves"
		}
		t.Run(name, func(t *testing.T) {
			opt := sessile.Options{Dir: t.TempDir(), CheckpointInterval: time.Hour}
			var ended atomic.Int32
			e, err := sessile.Open(opt)
			require.NoError(t, err)
			for _, id := range []string{"s", "other", "third"} {
				require.NoError(t, e.CreateID(ctx, id, nil))
			}
			require.NoError(t, e.Close())
			opt.OnEnd = func(sessile.Info, sessile.Reason) { ended.Add(1) }
			e, f := openFaulty(t, opt)
			c := make(chan struct{})
			f.blockGet.Store(&c)
			short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
			require.ErrorIs(t, e.Delete(short, "s"), sessile.ErrDurabilityUnknown)
			cancel()
			require.NoError(t, e.Upsert(ctx, "s", increment))
			if moves {
				for n := 10; n < 400; n += 30 {
					require.NoError(t, e.Update(ctx, "s", func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, n)) }))
				}
			}
			f.blockGet.Store(nil)
			close(c)
			require.Eventually(t, func() bool { return ended.Load() == 1 }, 10*time.Second, time.Millisecond, "the load ends")
			require.EqualValues(t, 3, e.Stats().Sessions)
			require.NoError(t, e.Delete(ctx, "s"))
			require.EqualValues(t, 2, e.Stats().Sessions)
			sessile.Checkpoint(e)
			require.EqualValues(t, 2, e.Stats().Sessions, "after the checkpoint")
			require.EqualValues(t, 2, ended.Load())
		})
	}
}

// The same where there was no record: Delete that gives up while it loads, then a new session.
func TestEndedUnseenThenCreated(t *testing.T) {
	opt := sessile.Options{Dir: t.TempDir(), CheckpointInterval: time.Hour}
	e, f := openFaulty(t, opt)
	for _, id := range []string{"other", "third"} {
		require.NoError(t, e.CreateID(ctx, id, nil))
	}
	c := make(chan struct{})
	f.blockGet.Store(&c)
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	_ = e.Delete(short, "s")
	cancel()
	f.blockGet.Store(nil)
	close(c)
	require.NoError(t, e.Upsert(ctx, "s", increment))
	require.EqualValues(t, 3, e.Stats().Sessions)
	sessile.Checkpoint(e)
	require.EqualValues(t, 3, e.Stats().Sessions)
	require.NoError(t, e.Delete(ctx, "s"))
	require.EqualValues(t, 2, e.Stats().Sessions)
	sessile.Checkpoint(e)
	require.EqualValues(t, 2, e.Stats().Sessions, "after the checkpoint")
}
