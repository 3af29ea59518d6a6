package sessile_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// A commit that was not asked to be durable is so within FlushInterval and a write.
func TestLossWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := store.NewMem()
		opt := sessile.Options{Dir: "in memory", FlushInterval: 100 * time.Millisecond, CheckpointInterval: time.Hour}
		e := openDisk(t, disk, 0, opt)
		for i := range 20 {
			require.NoError(t, e.Upsert(ctx, "a", increment))
			time.Sleep(opt.FlushInterval)
			synctest.Wait()
			disk.Crash(0)
			_ = e.Close()
			e = openDisk(t, disk, 0, opt)
			require.EqualValues(t, i+1, read(t, e, "a"))
		}
		require.NoError(t, e.Close())
	})
}

// A slow store takes its time over each batch.
type slowStore struct {
	store.Store
	each time.Duration
}

func (s slowStore) Commit(ops []store.Op) error {
	time.Sleep(s.each)
	return s.Store.Commit(ops)
}

func (s slowStore) Append(entries []store.Op) error {
	time.Sleep(s.each)
	return s.Store.Append(entries)
}

func openDisk(t *testing.T, disk *store.Mem, each time.Duration, opt sessile.Options) *sessile.Engine {
	st, err := disk.Open()
	require.NoError(t, err)
	e, err := sessile.OpenOn(opt, slowStore{st, each})
	require.NoError(t, err)
	return e
}

// The same where each write takes long, and checkpoints go on: FlushInterval, two groups, and one
// transaction of a checkpoint (invariant 3). The disk dies at any moment.
func TestLossWindowOfASlowDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const each = 30 * time.Millisecond
		opt := sessile.Options{Dir: "in memory", FlushInterval: 100 * time.Millisecond}
		bound := opt.FlushInterval + 3*each + 2*tick
		for round := range 50 {
			disk := store.NewMem()
			opt.CheckpointInterval = []time.Duration{170 * time.Millisecond, time.Hour}[round%2]
			e := openDisk(t, disk, each, opt)
			var committed []time.Time // of counter 1, 2, ...
			end := time.Now().Add(time.Duration(100+round*7) * time.Millisecond)
			for time.Now().Before(end) {
				require.NoError(t, e.Upsert(ctx, "a", increment))
				committed = append(committed, time.Now())
				time.Sleep(3 * time.Millisecond)
			}
			require.LessOrEqual(t, e.Stats().OldestUndurable, bound)
			disk.Crash(0)
			died := time.Now()
			_ = e.Close()
			e = openDisk(t, disk, 0, opt)
			kept := int64(0)
			if e.View(ctx, "a", nil) == nil {
				kept = read(t, e, "a")
			}
			if lost := committed[kept:]; len(lost) > 0 {
				require.LessOrEqual(t, died.Sub(lost[0]), bound, "%d of %d are there", kept, len(committed))
			}
			require.NoError(t, e.Close())
		}
	})
}
