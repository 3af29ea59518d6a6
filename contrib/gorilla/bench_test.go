package gorillastore_test

import (
	"net/http/httptest"
	"testing"

	"github.com/gorilla/sessions"
	"github.com/sessile-go/sessile/contrib/gorilla/audit"
)

// BenchmarkRequest is what gorilla does for a request that changes a session of ten values, without a server: on its own
// FilesystemStore, with an audit around that, and on an engine.
func BenchmarkRequest(b *testing.B) {
	for name, open := range map[string]func() sessions.Store{
		"stock": func() sessions.Store { return sessions.NewFilesystemStore(b.TempDir(), authKey) },
		"audited": func() sessions.Store {
			store, _ := audit.Wrap(sessions.NewFilesystemStore(b.TempDir(), authKey), audit.Options{})
			return store
		},
		"repaired": func() sessions.Store { return newStore(b, openEngine(b)) },
	} {
		b.Run(name, func(b *testing.B) {
			store := open()
			r := visit(nil)
			session := get(b, store, r)
			for _, k := range []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"} {
				session.Values[k] = "a value of some thirty bytes"
			}
			first := save(b, r, session)
			b.ReportAllocs()
			n := 0
			for b.Loop() {
				n++
				r := visit(first)
				session, err := store.Get(r, "app")
				if err != nil {
					b.Fatal(err)
				}
				session.Values["n"] = n
				if err := store.Save(r, httptest.NewRecorder(), session); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
