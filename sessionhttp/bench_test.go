package sessionhttp_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/sessionhttp"
	"github.com/stretchr/testify/require"
)

// discard is a writer that offers what net/http's does, and costs nothing.
type discard struct{ h http.Header }

func (d *discard) Header() http.Header         { return d.h }
func (d *discard) Write(b []byte) (int, error) { return len(b), nil }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Flush()                      {}
func (d *discard) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return nil, nil, http.ErrNotSupported
}
func (d *discard) ReadFrom(r io.Reader) (int64, error) { return io.Copy(io.Discard, r) }
func (d *discard) CloseNotify() <-chan bool            { return nil }

// BenchmarkHandler is what the middleware adds to a request: nothing used, the session read, and changed.
func BenchmarkHandler(b *testing.B) {
	e := openEngine(b, sessile.Options{})
	m, err := sessionhttp.New(e, sessionhttp.Options{})
	require.NoError(b, err)
	c, err := m.Issue(ctx, "ann", increment)
	require.NoError(b, err)
	body := []byte("hello")
	view := func(tx sessile.Txn) error { _, err := counter.Get(tx); return err }
	for name, h := range map[string]http.Handler{
		"none": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) }),
		"unused": m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(body)
		})),
		"read": m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := sessionhttp.From(r).View(r.Context(), view); err != nil {
				b.Error(err)
			}
			_, _ = w.Write(body)
		})),
		"update": m.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := sessionhttp.From(r).Update(r.Context(), increment); err != nil {
				b.Error(err)
			}
			_, _ = w.Write(body)
		})),
	} {
		b.Run(name, func(b *testing.B) {
			r := httptest.NewRequest("GET", "/", nil)
			r.AddCookie(c)
			w := &discard{http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
		})
	}
}
