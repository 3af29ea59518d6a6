package sessionhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// everything is a writer with all of the optional interfaces.
type everything struct{ called string }

func (e *everything) Header() http.Header         { return http.Header{} }
func (e *everything) Write(b []byte) (int, error) { return len(b), nil }
func (e *everything) WriteHeader(int)             {}
func (e *everything) Flush()                      { e.called += "F" }
func (e *everything) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	e.called += "H"
	return nil, nil, nil
}
func (e *everything) ReadFrom(io.Reader) (int64, error)    { e.called += "R"; return 0, nil }
func (e *everything) CloseNotify() <-chan bool             { e.called += "C"; return nil }
func (e *everything) Push(string, *http.PushOptions) error { e.called += "P"; return nil }
func offers(w http.ResponseWriter) (mask int, names string) { // and calls each
	if f, ok := w.(http.Flusher); ok {
		mask, names = mask|1, names+"F"
		f.Flush()
	}
	if h, ok := w.(http.Hijacker); ok {
		mask, names = mask|2, names+"H"
		_, _, _ = h.Hijack()
	}
	if r, ok := w.(io.ReaderFrom); ok {
		mask, names = mask|4, names+"R"
		_, _ = r.ReadFrom(nil)
	}
	//lint:ignore SA1019 it is offered
	if c, ok := w.(http.CloseNotifier); ok {
		mask, names = mask|8, names+"C"
		c.CloseNotify()
	}
	if p, ok := w.(http.Pusher); ok {
		mask, names = mask|16, names+"P"
		_ = p.Push("", nil)
	}
	return mask, names
}

// Each of the 32 combinations offers just its interfaces, each goes to the inner writer once, and wrap finds the combination that a
// writer has.
func TestCombinations(t *testing.T) {
	for mask, make := range combinations {
		all := &everything{}
		inner := make(&writer{inner: all, session: &Session{}})
		got, names := offers(inner)
		require.Equal(t, mask, got)
		require.Equal(t, names, all.called)
		_, flushes := inner.(interface{ FlushError() error })
		require.Equal(t, mask&1 != 0, flushes)

		got, again := offers(wrap(&writer{inner: inner, session: &Session{}}))
		require.Equal(t, mask, got)
		require.Equal(t, names+again, all.called)
	}
}
