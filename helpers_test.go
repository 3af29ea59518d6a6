package sessile_test

import (
	"context"
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

var (
	ctx     = context.Background()
	counter = sessile.NewKey[int64]("counter")
)

// increment adds one to the counter.
func increment(tx sessile.Txn) error {
	_, err := sessile.Add(tx, counter, 1)
	return err
}

// open opens an engine that is checked and closed at the end of the test.
func open(t testing.TB, opt sessile.Options) *sessile.Engine {
	t.Helper()
	e, err := sessile.Open(opt)
	require.NoError(t, err)
	t.Cleanup(func() { finish(t, e) })
	return e
}

// openOnMem opens an engine on a disk in memory.
func openOnMem(t testing.TB, opt sessile.Options) *sessile.Engine {
	t.Helper()
	opt.Dir = "in memory"
	st, err := store.NewMem().Open()
	require.NoError(t, err)
	e, err := sessile.OpenOn(opt, st)
	require.NoError(t, err)
	return e
}

// finish checks the invariants of an engine that is still open, and closes it.
func finish(t testing.TB, e *sessile.Engine) {
	t.Helper()
	if err := e.Flush(ctx); err != nil {
		require.ErrorIs(t, err, sessile.ErrClosed)
		return
	}
	require.NoError(t, sessile.Check(e))
	require.NoError(t, e.Close())
}

// reopen closes the engine and opens its directory again.
func reopen(t testing.TB, e *sessile.Engine, opt sessile.Options) *sessile.Engine {
	t.Helper()
	finish(t, e)
	return open(t, opt)
}

// eachMode runs the test on disk and in memory.
func eachMode(t *testing.T, opt sessile.Options, test func(t *testing.T, e *sessile.Engine)) {
	t.Run("disk", func(t *testing.T) {
		opt := opt
		opt.Dir = t.TempDir()
		test(t, open(t, opt))
	})
	t.Run("memory", func(t *testing.T) {
		opt := opt
		opt.InMemory = true
		test(t, open(t, opt))
	})
}

// create makes a session with an id of the engine's.
func create(t testing.TB, e *sessile.Engine, fn func(sessile.Txn) error) string {
	t.Helper()
	id, err := e.Create(ctx, fn)
	require.NoError(t, err)
	return id
}

// read returns the session's counter.
func read(t testing.TB, e *sessile.Engine, id string) int64 {
	t.Helper()
	v, err := sessile.Read(ctx, e.Session(id), counter)
	require.NoError(t, err)
	return v
}

// hold starts an Update that holds the session until release is called, and
// returns when it does. The result of the Update comes from release.
func hold(t testing.TB, e *sessile.Engine, id string, fn func(sessile.Txn) error) (release func() error) {
	t.Helper()
	inside, leave, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		done <- e.Update(ctx, id, func(tx sessile.Txn) error {
			close(inside)
			<-leave
			if fn == nil {
				return nil
			}
			return fn(tx)
		})
	}()
	select {
	case <-inside:
	case err := <-done:
		require.NoError(t, err)
	case <-time.After(10 * time.Second):
		require.Fail(t, "the callback did not begin")
	}
	return func() error { close(leave); return <-done }
}

// slogTo returns a logger that writes text.
func slogTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
