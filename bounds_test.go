package sessile_test

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// Sessions that are changed and not yet in their records cannot be evicted. While the disk takes nothing, new
// changes wait before there are more of them than memory has room for, however large the log may be (invariant 9).
func TestChangedSessionsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := store.NewMem()
		opt := sessile.Options{Dir: "in memory", MaxMemory: 1 << 20, FlushInterval: time.Millisecond, CheckpointInterval: time.Hour}
		e := openDisk(t, disk, 0, opt)
		disk.SetFault(func([]store.Op) store.Fault { return store.FaultStall })
		short, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		pad := func(tx sessile.Txn) error { return tx.Set("pad", make([]byte, 1000)) }
		var err error
		n := 0
		for ; err == nil && n < 10_000; n++ {
			err = e.Upsert(short, fmt.Sprint(n), pad)
		}
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Less(t, e.Stats().DirtyBytes, opt.MaxMemory)
		require.Less(t, e.Stats().Bytes, opt.MaxMemory+opt.MaxMemory/4)
		disk.SetFault(nil)
		disk.Resume()
		for i := range 5000 {
			require.NoError(t, e.Upsert(ctx, fmt.Sprint("more", i), pad))
			require.Less(t, e.Stats().DirtyBytes, opt.MaxMemory)
		}
		require.NoError(t, e.Close())
		e = openDisk(t, disk, 0, opt)
		require.EqualValues(t, n-1+5000, e.Stats().Sessions)
		require.NoError(t, sessile.CheckDisk(e))
		require.NoError(t, e.Close())
	})
}
