package sessile

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// Waiters of a latch whose holder is off its processor for long get it, in a bubble too.
func TestLatchInABubble(t *testing.T) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		synctest.Test(t, func(*testing.T) {
			var l latch
			l.Lock()
			var waiting sync.WaitGroup
			var came, had atomic.Int32
			for range 2 {
				waiting.Go(func() {
					came.Add(1)
					l.Lock()
					had.Add(1)
					l.Unlock()
				})
			}
			for came.Load() < 2 {
				runtime.Gosched()
			}
			for range 1_000_000 { // longer than they spin
				runtime.Gosched()
			}
			l.Unlock()
			waiting.Wait()
			require.EqualValues(t, 2, had.Load())
		})
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		require.Fail(t, "the waiters hang")
	}
}

// A slowStore takes its time over each transaction.
type slowStore struct {
	store.Store
	takes atomic.Int64
}

func (s *slowStore) Commit(ops []store.Op) error {
	time.Sleep(time.Duration(s.takes.Load()))
	return s.Store.Commit(ops)
}

func (s *slowStore) Append(entries []store.Op) error {
	time.Sleep(time.Duration(s.takes.Load()))
	return s.Store.Append(entries)
}

// What expires between the final cut and the end of Close is not counted, which the next Open would
// do again, nor told.
func TestExpiryWhileClosing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := store.NewMem()
		opt := Options{Dir: "in memory", IdleTimeout: 2 * time.Second, CheckpointInterval: time.Hour}
		told := 0
		opt.OnEnd = func(Info, Reason) { told++ }
		st, err := disk.Open()
		require.NoError(t, err)
		slow := &slowStore{Store: st}
		e, err := OpenOn(opt, slow)
		require.NoError(t, err)
		ctx := context.Background()
		for i := range 20 {
			require.NoError(t, e.CreateID(ctx, strconv.Itoa(i), nil))
		}
		Checkpoint(e)
		require.NoError(t, e.CreateID(ctx, "last", nil)) // so that there is something to write
		slow.takes.Store(int64(2500 * time.Millisecond))
		require.NoError(t, e.Close())
		require.Zero(t, told)

		st, err = disk.Open()
		require.NoError(t, err)
		opt.IdleTimeout, opt.Lifetime = time.Hour, 30*time.Second
		e, err = OpenOn(opt, st)
		require.NoError(t, err)
		require.NoError(t, CheckDisk(e))
		require.EqualValues(t, 21, e.Stats().Sessions)
		require.NoError(t, e.Close())
	})
}

// More callers than there are pins are refused, and hold nothing up.
func TestMorePinsThanThereAre(t *testing.T) {
	e, err := Open(Options{InMemory: true})
	require.NoError(t, err)
	defer e.Close()
	ctx := context.Background()
	require.NoError(t, e.CreateID(ctx, "a", nil))
	s := e.find(e.hash("a"), "a")
	s.word.Or(pinMost << pinShift) // as if two million waited
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	info, err := e.Wait(short, "a", 1<<63)
	require.ErrorIs(t, err, ErrBusy, "%v", info)
	require.NoError(t, e.Update(ctx, "a", func(tx Txn) error { return tx.Set("k", nil) }))
	s.word.And(1<<pinShift - 1)
}

// A damaged record can be deleted while others ask for it.
func TestDeleteDamagedWhileViewed(t *testing.T) {
	st, err := store.NewMem().Open()
	require.NoError(t, err)
	require.NoError(t, st.Commit([]store.Op{{Key: recordKey("bad"), Value: []byte("damaged")}}))
	e, err := OpenOn(Options{Dir: "in memory"}, st)
	require.NoError(t, err)
	ctx := context.Background()
	h := e.hash("bad")
	sh := e.shardOf(h)
	sh.mu.Lock() // somebody else commits just now
	ended := make(chan error, 1)
	go func() {
		_, err := e.endBlind("bad", ErrCorrupt) // what Delete comes to
		ended <- err
	}()
	for range 1000 {
		runtime.Gosched()
	}
	s := sh.find(h, "bad")
	sh.mu.Unlock()
	require.Nil(t, s, "it is in the map as if somebody were loading it")
	require.NoError(t, <-ended)
	require.ErrorIs(t, e.View(ctx, "bad", nil), ErrNotFound)
	require.NoError(t, e.Close())
}
