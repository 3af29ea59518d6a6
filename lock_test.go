package sessile_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// A caller that takes the lock again at once, sooner than a waiter can wake, does so a few times at most.
func TestWaitersAreNotOvertakenForLong(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true, LockTimeout: 5 * time.Second})
	id := create(t, e, nil)
	const waiters = 5
	release := hold(t, e, id, nil)
	var order []int
	var running atomic.Int32 // callbacks of the hog since the waiters queued
	var wg sync.WaitGroup
	for i := range waiters {
		wg.Go(func() {
			require.NoError(t, e.Update(ctx, id, func(sessile.Txn) error { order = append(order, i); return nil }))
		})
		require.Eventually(t, func() bool { return e.Stats().LockWaits == uint64(i+1) }, 5*time.Second, time.Millisecond)
	}
	stop := make(chan struct{})
	var hog sync.WaitGroup
	hog.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			require.NoError(t, e.Update(ctx, id, func(sessile.Txn) error {
				running.Add(1)
				time.Sleep(2 * time.Millisecond)
				return nil
			}))
		}
	})
	require.NoError(t, release())
	wg.Wait()
	close(stop)
	hog.Wait()
	require.Equal(t, []int{0, 1, 2, 3, 4}, order)
	require.LessOrEqual(t, running.Load(), int32(4*waiters))
}

// A waiter that gives up in the moment in which it is woken passes that on.
func TestAWaiterThatLeavesAsItIsWoken(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true, LockTimeout: 5 * time.Second})
	id := create(t, e, nil)
	for n := 0; n < 300 && !t.Failed(); n++ {
		begun, release := make(chan struct{}), make(chan struct{})
		first, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		waits := e.Stats().LockWaits
		wg.Go(func() {
			require.NoError(t, e.Update(ctx, id, func(sessile.Txn) error {
				close(begun)
				<-release
				cancel()
				return nil
			}))
		})
		<-begun
		for i, c := range []context.Context{first, ctx} {
			wg.Go(func() {
				if err := e.Update(c, id, nil); i == 1 {
					require.NoError(t, err)
				} else if err != nil {
					require.ErrorIs(t, err, context.Canceled)
				}
			})
			for e.Stats().LockWaits != waits+uint64(i+1) {
				time.Sleep(10 * time.Microsecond)
			}
		}
		close(release)
		wg.Wait()
	}
	require.Zero(t, e.Stats().LockTimeouts)
}

// Many callers of one session, with callbacks that sleep and contexts that end: none is forgotten.
func TestACrowd(t *testing.T) {
	e := open(t, sessile.Options{InMemory: true, LockTimeout: 5 * time.Second})
	id := create(t, e, nil)
	var done atomic.Int64
	var wg sync.WaitGroup
	for i := range 64 {
		wg.Go(func() {
			for n := 0; n < 100 && !t.Failed(); n++ {
				c, cancel := ctx, context.CancelFunc(func() {})
				if (i+n)%3 == 0 {
					c, cancel = context.WithTimeout(ctx, time.Duration(i+1)*5*time.Microsecond)
				}
				err := e.Update(c, id, func(tx sessile.Txn) error {
					if (i+n)%50 == 0 {
						time.Sleep(100 * time.Microsecond)
					}
					return increment(tx)
				})
				cancel()
				if err == nil {
					done.Add(1)
				} else {
					require.ErrorIs(t, err, context.DeadlineExceeded)
				}
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, done.Load(), read(t, e, id))
	require.Zero(t, e.Stats().LockTimeouts)
}
