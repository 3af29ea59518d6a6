package sessile_test

import (
	"testing"
	"time"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
)

// A session that came back to a user whom it had left, and ends between the capture and the
// writing of a checkpoint, leaves no index entry.
func TestIndexOfReturningUser(t *testing.T) {
	for name, change := range map[string]func(e *sessile.Engine) error{
		"ended": func(e *sessile.Engine) error {
			return e.Delete(ctx, "a")
		},
		"of another user": func(e *sessile.Engine) error { return e.Update(ctx, "a", as("carol")) },
		"of none":         func(e *sessile.Engine) error { return e.Update(ctx, "a", as("")) },
		"changed":         func(e *sessile.Engine) error { return e.Update(ctx, "a", increment) },
	} {
		t.Run(name, func(t *testing.T) {
			opt := sessile.Options{Dir: t.TempDir(), FlushInterval: time.Minute, CheckpointInterval: time.Hour}
			e, f := openFaulty(t, opt)
			require.NoError(t, e.CreateID(ctx, "a", as("ann")))
			require.NoError(t, e.Update(ctx, "a", as("bob")))
			require.NoError(t, e.Update(ctx, "a", as("ann")))
			before := func(ops []store.Op) {
				if ops[0].Key[0] == 'r' {
					f.before.Store(nil)
					require.NoError(t, change(e))
				}
			}
			f.before.Store(&before)
			sessile.Checkpoint(e)
			require.Nil(t, f.before.Load(), "the records were written")
			for range 3 { // each begins with an index entry that is there already
				require.NoError(t, e.Upsert(ctx, "a", increment))
				sessile.Checkpoint(e)
			}
			finish(t, e)
			e = open(t, opt)
			require.NoError(t, sessile.CheckDisk(e))
		})
	}
}
