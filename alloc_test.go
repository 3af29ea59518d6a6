//go:build !race

package sessile_test

import (
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/stretchr/testify/require"
)

// The hot path allocates nothing: the garbage collector's work does not grow with use.
func TestNoAllocations(t *testing.T) {
	eachMode(t, sessile.Options{}, func(t *testing.T, e *sessile.Engine) {
		id := create(t, e, func(tx sessile.Txn) error {
			require.NoError(t, tx.Set("plain", make([]byte, 8)))
			return increment(tx)
		})
		var b [8]byte
		for name, fn := range map[string]func(){
			"Update": func() {
				b[0]++
				_ = e.Update(ctx, id, func(tx sessile.Txn) error { return tx.Set("plain", b[:]) })
			},
			"Update Key": func() {
				_ = e.Update(ctx, id, func(tx sessile.Txn) error { _, err := sessile.Add(tx, counter, 1); return err })
			},
			"Session.Update": func() { _ = e.Session(id).Update(ctx, increment) },
			"View": func() {
				_ = e.View(ctx, id, func(tx sessile.Txn) error { v, _ := tx.Peek("plain"); b[1] = v[0]; return nil })
			},
			"View Key": func() {
				_ = e.View(ctx, id, func(tx sessile.Txn) error { v, err := counter.Get(tx); b[1] = byte(v); return err })
			},
			"Touch": func() { _ = e.Touch(ctx, id) },
		} {
			fn()
			require.Zero(t, testing.AllocsPerRun(1000, fn), name)
		}
	})
}
