package sessile_test

import (
	"bytes"
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

// crashed ends the engine as a crash does.
func crashed(disk *store.Mem, e *sessile.Engine) {
	disk.Crash(0)
	_ = e.Close()
}

// What the options have no room for is written at Open.
func TestRecoverIntoLessRoom(t *testing.T) {
	opt := sessile.Options{Dir: "in memory", CheckpointInterval: time.Hour}
	log := func(t *testing.T) *store.Mem {
		disk := store.NewMem()
		e := openDisk(t, disk, 0, opt)
		for i := range 100 {
			require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 9000)) }))
			if i%10 == 9 {
				require.NoError(t, e.Flush(ctx))
			}
		}
		require.Greater(t, e.Stats().LogBytes, int64(900_000))
		crashed(disk, e)
		return disk
	}
	t.Run("MaxMemory", func(t *testing.T) {
		less := opt
		less.MaxMemory = 1 << 20
		e := openDisk(t, log(t), 0, less)
		require.Less(t, e.Stats().DirtyBytes, less.MaxMemory/4+100_000)
		require.EqualValues(t, 100, e.Stats().Sessions)
		require.NoError(t, sessile.CheckDisk(e))
		require.NoError(t, e.Close())
	})
	t.Run("MaxLogBytes", func(t *testing.T) {
		less := opt
		less.MaxLogBytes = 1 << 20
		e := openDisk(t, log(t), 0, less)
		require.Zero(t, e.Stats().LogBytes)
		require.Zero(t, e.Stats().Dirty)
		require.EqualValues(t, 100, e.Stats().Sessions)
		require.NoError(t, sessile.CheckDisk(e))
		require.NoError(t, e.Close())
	})
}

// isRaise reports whether a batch raises the low-water mark.
func isRaise(ops []store.Op) bool { return len(ops) == 1 && string(ops[0].Key) == "w" }

// failAfterRaise lets the disk fail once a checkpoint has raised the mark.
func failAfterRaise(disk *store.Mem) {
	raised := false
	disk.SetFault(func(ops []store.Op) store.Fault {
		if raised {
			return store.FaultFail
		}
		raised = isRaise(ops)
		return store.FaultNone
	})
}

// A checkpoint ends the log of all that has been recovered, so it must not begin before all of that is the engine's.
func TestNothingIsCutWhileOpenAdopts(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	const n = 100_000
	for i := range n {
		require.NoError(t, e.CreateID(ctx, fmt.Sprint(i), nil))
	}
	require.NoError(t, e.Flush(ctx))
	crashed(disk, e)

	often := opt
	often.CheckpointInterval = 10 * time.Millisecond
	failAfterRaise(disk)
	e = openDisk(t, disk, 0, often)
	require.Eventually(t, func() bool { return e.Stats().Failed != nil }, time.Minute, time.Millisecond)
	crashed(disk, e)
	e = openDisk(t, disk, 0, opt)
	require.EqualValues(t, n, e.Stats().Sessions)
	require.NoError(t, sessile.CheckDisk(e))
	require.NoError(t, e.Close())
}

// A crash between the mark and the deletion of what is below it leaves groups that nobody needs.
func TestNothingIsLeftOfTheLog(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	failAfterRaise(disk)
	require.Error(t, e.Close())
	disk.Crash(0)
	e = openDisk(t, disk, 0, opt)
	require.Zero(t, e.Stats().LogBytes)
	require.EqualValues(t, 1, read(t, e, "a"))
	crashed(disk, e)
	st, err := disk.Open()
	require.NoError(t, err)
	require.NoError(t, st.Replay(nil, func(k, _ []byte) bool {
		t.Errorf("%x is left", k)
		return true
	}))
}

// Open brings the log under the first key, so that the older one can go although there was no checkpoint.
func TestLogComesUnderTheNewKey(t *testing.T) {
	one, two := bytes.Repeat([]byte("1"), 32), bytes.Repeat([]byte("2"), 32)
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", CheckpointInterval: time.Hour}
	for i, keys := range [][][]byte{{one}, {two, one}, {two}} {
		opt.EncryptionKeys = keys
		e := openDisk(t, disk, 0, opt)
		if i == 0 {
			require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
		}
		require.EqualValues(t, 1, read(t, e, "a"))
		crashed(disk, e)
	}
}

// A loss that one Open has accepted is none for the next.
func TestLossIsAcceptedForGood(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	require.NoError(t, e.CreateID(ctx, "a", durably(increment)))
	require.NoError(t, e.CreateID(ctx, "b", durably(increment)))
	sessile.Checkpoint(e)
	require.NoError(t, e.Update(ctx, "a", durably(increment)))
	crashed(disk, e)
	st, err := disk.Open()
	require.NoError(t, err)
	require.NoError(t, st.Commit([]store.Op{{Key: []byte("ra"), Value: bytes.Repeat([]byte{1}, 40)}}))
	_, err = sessile.OpenOn(opt, st)
	require.ErrorIs(t, err, sessile.ErrCorrupt)
	opt.AcceptDataLoss = true
	e = openDisk(t, disk, 0, opt)
	require.NoError(t, e.Update(ctx, "b", durably(increment)))
	crashed(disk, e)
	opt.AcceptDataLoss = false
	e = openDisk(t, disk, 0, opt)
	require.EqualValues(t, 2, read(t, e, "b"))
	require.NoError(t, e.Close())
}
