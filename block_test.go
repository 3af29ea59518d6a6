package sessile_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// set stages a value of n bytes.
func set(key string, n int) func(sessile.Txn) error {
	return func(tx sessile.Txn) error { return tx.Set(key, make([]byte, n)) }
}

// A session that outgrows its memory between the cut that begins a checkpoint and the moment its state is captured
// is in the records all the same: the checkpoint deletes the log that has its earlier changes.
func TestMovesAndCheckpoints(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", FlushInterval: time.Minute, CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	require.NoError(t, e.Upsert(ctx, "a", set("first", 10)))
	require.NoError(t, e.Flush(ctx))
	require.NoError(t, e.Upsert(ctx, "b", set("first", 10))) // so that the cut has a group to write
	grown := false
	disk.SetFault(func([]store.Op) store.Fault {
		if !grown {
			grown = true
			for _, key := range []string{"second", "third"} { // it moves twice
				require.NoError(t, e.Update(ctx, "a", set(key, 100)))
			}
		}
		return store.FaultNone
	})
	sessile.Checkpoint(e)
	require.True(t, grown)
	require.NoError(t, sessile.Check(e))
	disk.Crash(0)
	_ = e.Close()

	disk.SetFault(nil)
	e = openDisk(t, disk, 0, opt)
	require.NoError(t, e.View(ctx, "a", func(tx sessile.Txn) error {
		require.Equal(t, 3, tx.Len())
		return nil
	}))
	finish(t, e)
}

// All and ByUser find a session that moves all the time.
func TestListsWhileMoving(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true})
	require.NoError(t, e.Upsert(ctx, "a", func(tx sessile.Txn) error { return tx.SetUser("bob") }))
	stop := make(chan struct{})
	var moving sync.WaitGroup
	moving.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				_ = e.Update(ctx, "a", set("size", 1+300*(i%2)))
			}
		}
	})
	for range 20_000 {
		n := 0
		for info, err := range e.All(ctx) {
			require.NoError(t, err)
			require.Equal(t, "a", info.ID)
			n++
		}
		for info, err := range e.ByUser(ctx, "bob") {
			require.NoError(t, err)
			require.Equal(t, "a", info.ID)
			n++
		}
		require.Equal(t, 2, n)
	}
	close(stop)
	moving.Wait()
}

// After a commit that had to clone the state because Views may have had it, Views take copies. What they see does not
// change, and where they alternate with Updates neither allocates.
func TestViewsTakeCopies(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		value := func(tx sessile.Txn) string {
			v, _ := tx.Peek("k")
			return string(v)
		}
		put := func(v string) {
			require.NoError(t, e.Update(ctx, "a", func(tx sessile.Txn) error { return tx.Set("k", []byte(v)) }))
		}
		require.NoError(t, e.Upsert(ctx, "a", func(tx sessile.Txn) error { return tx.Set("k", []byte("0")) }))
		for i := range 100 {
			// From 0 Views, which leave nothing published, to more than are given copies.
			for range i % 10 {
				require.NoError(t, e.View(ctx, "a", func(tx sessile.Txn) error {
					before := value(tx)
					put(strings.Repeat("x", 1+i%2))
					require.Equal(t, before, value(tx))
					return nil
				}))
				require.NoError(t, e.View(ctx, "a", nil))
			}
			put(fmt.Sprint(i % 10))
			require.NoError(t, e.ViewMany(ctx, []string{"a"}, func(txs []sessile.Txn) error {
				put("z")
				require.Equal(t, fmt.Sprint(i%10), value(txs[0]))
				return nil
			}))
		}
		if raceEnabled {
			return // it allocates
		}
		one, two := []byte{1}, byte(0)
		require.Zero(t, testing.AllocsPerRun(1000, func() {
			one[0]++
			_ = e.Update(ctx, "a", func(tx sessile.Txn) error { return tx.Set("k", one) })
			_ = e.View(ctx, "a", func(tx sessile.Txn) error { v, _ := tx.Peek("k"); two = v[0]; return nil })
			if one[0] != two {
				panic("an Update that a View does not see")
			}
		}))
	})
}

// In the log too, each change is that of its own key, however many of a session are made before the group is cut.
func TestOverwrittenDeltas(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", FlushInterval: time.Minute, CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	keys := []string{"a", "b", "longer"}
	require.NoError(t, e.Upsert(ctx, "s", func(tx sessile.Txn) error {
		for _, k := range keys {
			require.NoError(t, tx.Set(k, make([]byte, 9)))
		}
		return nil
	}))
	want := map[string]string{}
	for i := range 1000 {
		if i%100 == 0 {
			require.NoError(t, e.Flush(ctx))
		}
		k := keys[i*i%7%3]
		want[k] = fmt.Sprintf("%09d", i)
		require.NoError(t, e.Update(ctx, "s", func(tx sessile.Txn) error { return tx.Set(k, []byte(want[k])) }))
	}
	require.NoError(t, e.Flush(ctx))
	disk.Crash(0)
	_ = e.Close()
	e = openDisk(t, disk, 0, opt)
	require.NoError(t, e.View(ctx, "s", func(tx sessile.Txn) error {
		for _, k := range keys {
			v, _ := tx.Peek(k)
			require.Equal(t, want[k], string(v))
		}
		return nil
	}))
	finish(t, e)
}

// A delta's place says nothing once its group has been cut: another session's delta may lie there by then.
func TestDeltaOfACutGroup(t *testing.T) {
	disk := store.NewMem()
	opt := sessile.Options{Dir: "in memory", FlushInterval: time.Minute, CheckpointInterval: time.Hour}
	e := openDisk(t, disk, 0, opt)
	const sessions = 100 // so that some share a shard
	id := func(i int) string { return fmt.Sprintf("%02d", i%sessions) }
	write := func(round, i int) {
		require.NoError(t, e.Upsert(ctx, id(i), func(tx sessile.Txn) error { return tx.Set("k", fmt.Appendf(nil, "%02d %s", round, id(i))) }))
	}
	const rounds = 10
	for round := range rounds {
		for i := range sessions {
			write(round, i+round) // each round in another order
		}
		require.NoError(t, e.Flush(ctx))
	}
	disk.Crash(0)
	_ = e.Close()
	e = openDisk(t, disk, 0, opt)
	for i := range sessions {
		require.NoError(t, e.View(ctx, id(i), func(tx sessile.Txn) error {
			v, _ := tx.Peek("k")
			require.Equal(t, fmt.Sprintf("%02d %s", rounds-1, id(i)), string(v))
			return nil
		}))
	}
	finish(t, e)
}

// Where a session moves all the time, what it has moved from is let go of at once.
func TestMovesLeaveNothing(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		for _, id := range []string{"a", "b", "c"} {
			require.NoError(t, e.Upsert(ctx, id, nil))
		}
		for i := range 20_000 {
			require.NoError(t, e.Update(ctx, "a", set("size", 1+300*(i%2))))
		}
		require.Less(t, e.Stats().Hot, int64(100))
	})
}

// A session that is pinned cannot move, and takes the memory of two records then: MaxMemory holds for both.
func TestMaxMemoryOfPinnedSessions(t *testing.T) {
	const most = 1 << 20
	e := open(t, sessile.Options{InMemory: true, MaxMemory: most})
	var ids []string
	for err := error(nil); err == nil; {
		var id string
		if id, err = e.Create(ctx, set("pad", 200)); err == nil {
			ids = append(ids, id)
		} else {
			require.ErrorIs(t, err, sessile.ErrTooLarge)
		}
	}
	waiting, cancel := context.WithCancel(ctx)
	var pins sync.WaitGroup
	for _, id := range ids {
		pins.Go(func() { _, _ = e.Wait(waiting, id, 1<<63) })
	}
	require.Eventually(t, func() bool { return sessile.Pinned(e) == len(ids) }, 10*time.Second, time.Millisecond)
	for _, id := range ids {
		require.NoError(t, e.View(ctx, id, nil))
		if err := e.Update(ctx, id, set("pad", 200)); err != nil {
			require.ErrorIs(t, err, sessile.ErrTooLarge)
		}
	}
	require.LessOrEqual(t, e.Stats().Bytes, int64(most))
	cancel()
	pins.Wait()
}

// A list does not take the record on disk for the state of a session that moves just now.
func TestLookWhileMoving(t *testing.T) {
	e := open(t, sessile.Options{Dir: t.TempDir(), CheckpointInterval: time.Hour})
	user := func(name string) func(sessile.Txn) error {
		return func(tx sessile.Txn) error { return tx.SetUser(name) }
	}
	require.NoError(t, e.Upsert(ctx, "a", user("old")))
	sessile.Checkpoint(e)
	require.NoError(t, e.Update(ctx, "a", user("new")))
	require.Equal(t, "new", sessile.LookWhileMoving(e, "a").User)
}
