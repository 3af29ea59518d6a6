package sessile_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// userOf sets user and counter, durably.
func userOf(user string, n int64) func(sessile.Txn) error {
	return durably(func(tx sessile.Txn) error {
		if err := tx.SetUser(user); err != nil {
			return err
		}
		return counter.Set(tx, n)
	})
}

// What a crash leaves in the log is in memory after Open, and nothing of it is written then. It is however often
// Open is tried; the next checkpoint writes it, and ends the log.
func TestRecoveredSessionsAreChanged(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	for _, id := range []string{"cold", "kept", "ended", "again"} {
		require.NoError(t, e.CreateID(ctx, id, userOf("ann", 1)))
	}
	sessile.Checkpoint(e)
	require.NoError(t, e.Update(ctx, "kept", userOf("bob", 2)))
	require.NoError(t, e.Delete(ctx, "ended"))
	require.NoError(t, e.Delete(ctx, "again"))
	require.NoError(t, e.CreateID(ctx, "again", durably(increment)))
	require.NoError(t, e.CreateID(ctx, "new", userOf("bob", 3)))
	require.NoError(t, e.CreateID(ctx, "brief", userOf("bob", 4)))
	require.NoError(t, e.Delete(ctx, "brief"))
	log := e.Stats().LogBytes
	require.Positive(t, log)

	crash := func() {
		disk.Crash(0)
		_ = e.Close()
		e = openDisk(t, disk, 0, opt)
	}
	holds := func() {
		t.Helper()
		require.NoError(t, sessile.CheckDisk(e))
		require.EqualValues(t, 4, e.Stats().Sessions)
		require.EqualValues(t, 1, e.Stats().Anonymous)
		for id, want := range map[string]int64{"cold": 1, "kept": 2, "again": 1, "new": 3} {
			require.Equal(t, want, read(t, e, id), id)
		}
		for _, id := range []string{"ended", "brief"} {
			require.ErrorIs(t, e.View(ctx, id, nil), sessile.ErrNotFound)
		}
		for user, want := range map[string]int{"ann": 1, "bob": 2} {
			n := 0
			for _, err := range e.ByUser(ctx, user) {
				require.NoError(t, err)
				n++
			}
			require.Equal(t, want, n, user)
		}
	}
	for range 3 {
		crash()
		s := e.Stats()
		require.EqualValues(t, 3, s.Hot)
		require.EqualValues(t, 4, s.Dirty, "and the one that has ended")
		require.Equal(t, log, s.LogBytes)
		holds()
		require.NoError(t, sessile.Check(e))
	}
	sessile.Checkpoint(e)
	require.Zero(t, e.Stats().LogBytes)
	require.Zero(t, e.Stats().DirtyBytes)
	holds()
	crash()
	require.Zero(t, e.Stats().Hot)
	holds()
	require.NoError(t, e.Close())
}

// Of a group that a crash cut short nothing is left to meet the group that gets its number next.
func TestGroupCutShort(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", FlushInterval: time.Minute, CheckpointInterval: time.Hour, MaxSessionSize: 512 << 10}
	e := openDisk(t, disk, 0, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	batches := 0
	disk.SetFault(func([]store.Op) store.Fault {
		if batches++; batches > 1 {
			return store.FaultFail
		}
		return store.FaultNone
	})
	ids := make([]string, 12)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	require.ErrorIs(t, e.UpsertMany(ctx, ids, func(txs []sessile.Txn) error {
		for _, tx := range txs {
			require.NoError(t, tx.Set("pad", make([]byte, 500<<10)))
			tx.Durable()
		}
		return nil
	}), sessile.ErrDurabilityUnknown)
	for want := int64(1); want < 4; want++ {
		disk.Crash(0)
		_ = e.Close()
		e = openDisk(t, disk, 0, opt)
		require.EqualValues(t, 1, e.Stats().Sessions)
		require.Equal(t, want, read(t, e, "a"))
		require.NoError(t, e.Update(ctx, "a", durably(increment)))
	}
	require.NoError(t, e.Close())
}

// What the options have no room for is written at Open.
func TestRecoverIntoLessRoom(t *testing.T) {
	for _, less := range []sessile.Options{{MaxMemory: 1 << 20}, {MaxLogBytes: 1 << 20}} {
		disk := store.NewMem()
		less.Dir, less.CheckpointInterval = "in memory", time.Hour
		e := openDisk(t, disk, 0, sessile.Options{Dir: less.Dir, CheckpointInterval: less.CheckpointInterval})
		for i := range 100 {
			require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 9000)) }))
		}
		require.NoError(t, e.Flush(ctx))
		disk.Crash(0)
		_ = e.Close()
		e = openDisk(t, disk, 0, less)
		s := e.Stats()
		require.Zero(t, s.LogBytes)
		require.Zero(t, s.Dirty)
		require.EqualValues(t, 100, s.Sessions)
		require.NoError(t, sessile.CheckDisk(e))
		require.NoError(t, e.Close())
	}
}
