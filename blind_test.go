package sessile_test

import (
	"context"
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
			ended := 0
			e, err := sessile.Open(opt)
			require.NoError(t, err)
			for _, id := range []string{"s", "other", "third"} {
				require.NoError(t, e.CreateID(ctx, id, nil))
			}
			require.NoError(t, e.Close())
			opt.OnEnd = func(sessile.Info, sessile.Reason) { ended++ }
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
			time.Sleep(50 * time.Millisecond) // the load ends
			require.EqualValues(t, 3, e.Stats().Sessions)
			require.NoError(t, e.Delete(ctx, "s"))
			require.EqualValues(t, 2, e.Stats().Sessions)
			sessile.Checkpoint(e)
			time.Sleep(50 * time.Millisecond)
			require.EqualValues(t, 2, e.Stats().Sessions, "after the checkpoint")
			require.Equal(t, 2, ended)
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
	time.Sleep(50 * time.Millisecond)
	require.NoError(t, e.Upsert(ctx, "s", increment))
	require.EqualValues(t, 3, e.Stats().Sessions)
	sessile.Checkpoint(e)
	require.EqualValues(t, 3, e.Stats().Sessions)
	require.NoError(t, e.Delete(ctx, "s"))
	require.EqualValues(t, 2, e.Stats().Sessions)
	sessile.Checkpoint(e)
	time.Sleep(50 * time.Millisecond)
	require.EqualValues(t, 2, e.Stats().Sessions, "after the checkpoint")
}
