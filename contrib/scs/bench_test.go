package scsstore_test

import (
	"context"
	"testing"

	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	scsstore "github.com/sessile-go/sessile/contrib/scs"
	"github.com/sessile-go/sessile/contrib/scs/audit"
	"github.com/stretchr/testify/require"
)

// BenchmarkRequest is what scs does for a request on a session of ten values, without a server: on its own store, with
// an audit around that, and on an engine.
func BenchmarkRequest(b *testing.B) {
	change := func(sm *scs.SessionManager, ctx context.Context, n int) { sm.Put(ctx, "n", n) }
	read := func(sm *scs.SessionManager, ctx context.Context, n int) { _ = sm.GetString(ctx, "a") }
	for name, set := range map[string]func(*scs.SessionManager){
		"stock":   func(sm *scs.SessionManager) {},
		"audited": func(sm *scs.SessionManager) { audit.Wrap(sm, audit.Options{}) },
		"repaired": func(sm *scs.SessionManager) {
			store, err := scsstore.New(openEngine(b), scsstore.Options{})
			require.NoError(b, err)
			sm.Store, sm.Codec = store, store.Codec()
		},
	} {
		b.Run("change/"+name, func(b *testing.B) { benchmarkRequest(b, set, change) })
		b.Run("read/"+name, func(b *testing.B) { benchmarkRequest(b, set, read) })
	}
}

func benchmarkRequest(b *testing.B, set func(*scs.SessionManager), use func(*scs.SessionManager, context.Context, int)) {
	sm := scs.New()
	sm.Store = memstore.NewWithCleanupInterval(0)
	set(sm)
	token := request(b, sm, "", func(ctx context.Context) {
		for _, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
			sm.Put(ctx, k, "a value of some thirty bytes")
		}
	})
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		n++
		ctx, err := sm.Load(context.Background(), token)
		if err != nil {
			b.Fatal(err)
		}
		use(sm, ctx, n)
		if sm.Status(ctx) == scs.Modified {
			if _, _, err := sm.Commit(ctx); err != nil {
				b.Fatal(err)
			}
		}
	}
}
