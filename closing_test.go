package sessile_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// A call that passed the gate before Shutdown, and needs a cold session after it, is refused. It does not hang.
func TestLoadAfterClose(t *testing.T) {
	var e *sessile.Engine
	e = openOnMem(t, sessile.Options{OnEnd: func(sessile.Info, sessile.Reason) { require.NoError(t, e.Close()) }})
	require.NoError(t, e.CreateID(ctx, "a", as("ann")))
	require.NoError(t, e.CreateID(ctx, "b", as("ann")))
	sessile.Checkpoint(e)
	sessile.EvictAll(e)
	done := make(chan error, 1)
	go func() {
		n, err := e.DeleteUser(ctx, "ann")
		if n != 1 {
			t.Errorf("%d ended", n)
		}
		done <- err
	}()
	select {
	case err := <-done:
		require.ErrorIs(t, err, sessile.ErrClosed)
	case <-time.After(10 * time.Second):
		require.Fail(t, "DeleteUser hangs")
	}
}

// A scanHook is a store that does something before its next Scan or Get.
type scanHook struct {
	store.Store
	hook atomic.Pointer[func()]
}

func (s *scanHook) run() {
	if hook := s.hook.Swap(nil); hook != nil {
		(*hook)()
	}
}

func (s *scanHook) Scan(prefix, after []byte, keysOnly bool, fn func(k, v []byte) bool) error {
	s.run()
	return s.Store.Scan(prefix, after, keysOnly, fn)
}

func (s *scanHook) Get(key, dst []byte) ([]byte, bool, error) {
	s.run()
	return s.Store.Get(key, dst)
}

// A call that reads the disk while Shutdown closes it is refused; the store has not failed.
func TestReadWhileClosing(t *testing.T) {
	for name, call := range map[string]func(e *sessile.Engine) error{
		"All": func(e *sessile.Engine) (last error) {
			for _, err := range e.All(ctx) {
				last = err
			}
			return last
		},
		"ByUser": func(e *sessile.Engine) (last error) {
			for _, err := range e.ByUser(ctx, "ann") {
				last = err
			}
			return last
		},
	} {
		t.Run(name, func(t *testing.T) {
			st, err := store.NewMem().Open()
			require.NoError(t, err)
			s := &scanHook{Store: st}
			e, err := sessile.OpenOn(sessile.Options{Dir: "in memory"}, s)
			require.NoError(t, err)
			require.NoError(t, e.CreateID(ctx, "a", as("ann")))
			sessile.Checkpoint(e)
			sessile.EvictAll(e)
			hook := func() { require.NoError(t, e.Close()) }
			s.hook.Store(&hook)
			require.ErrorIs(t, call(e), sessile.ErrClosed)
			require.NoError(t, e.Stats().Failed)
		})
	}
}
