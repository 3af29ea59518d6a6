//go:build !race

package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// What a request that only reads its session allocates beyond the handler's own.
func TestAllocations(t *testing.T) {
	e := openEngine(t, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(t, err)
	c, err := m.Issue(ctx, "ann", increment)
	require.NoError(t, err)
	body := []byte("hello")
	allocations := func(h http.Handler) float64 {
		r, w := httptest.NewRequest("GET", "/", nil), &discard{http.Header{}}
		r.AddCookie(c)
		return testing.AllocsPerRun(1000, func() { h.ServeHTTP(w, r) })
	}
	require.Zero(t, allocations(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) })))
	require.LessOrEqual(t, allocations(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write(body)
	}))), 2.0, "the session is not used")
	view := func(tx sessile.Txn) error { _, err := counter.Get(tx); return err }
	require.LessOrEqual(t, allocations(m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := sessionhttp.From(r).View(r.Context(), view); err != nil {
			t.Error(err)
		}
		_, _ = w.Write(body)
	}))), 3.0, "it is read")
}
