package sessionhttp

import (
	"bufio"
	"io"
	"net"
	"net/http"
)

// A writer seals the handle when the final header goes out. It is neither pooled nor closed: outer code may answer through
// it after the handler has returned.
type writer struct {
	inner   http.ResponseWriter
	session *Session
}

func (w *writer) Header() http.Header { return w.inner.Header() }

func (w *writer) WriteHeader(code int) {
	if code >= 200 || code == http.StatusSwitchingProtocols {
		w.session.seal(w.inner.Header())
	}
	w.inner.WriteHeader(code)
}

func (w *writer) Write(b []byte) (int, error) {
	w.session.seal(w.inner.Header())
	return w.inner.Write(b)
}

func (w *writer) WriteString(s string) (int, error) {
	w.session.seal(w.inner.Header())
	return io.WriteString(w.inner, s)
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return (*unwrapped)(w) }

// An unwrapped is what [http.ResponseController] finds below the writer. What the inner one does not offer itself, others below it
// may: they must not send the header past the session either.
type unwrapped writer

func (w *unwrapped) Header() http.Header                          { return w.inner.Header() }
func (w *unwrapped) WriteHeader(code int)                         { (*writer)(w).WriteHeader(code) }
func (w *unwrapped) Write(b []byte) (int, error)                  { return (*writer)(w).Write(b) }
func (w *unwrapped) FlushError() error                            { return (*writer)(w).flush() }
func (w *unwrapped) Hijack() (net.Conn, *bufio.ReadWriter, error) { return (*writer)(w).hijack() }
func (w *unwrapped) Unwrap() http.ResponseWriter                  { return w.inner }

func (w *writer) flush() error {
	if !flushes(w.inner) {
		return http.ErrNotSupported
	}
	w.session.seal(w.inner.Header())
	return http.NewResponseController(w.inner).Flush()
}

// flushes reports whether [http.ResponseController] finds a way to flush.
func flushes(w http.ResponseWriter) bool {
	for {
		switch t := w.(type) {
		case http.Flusher, interface{ FlushError() error }:
			return true
		case interface{ Unwrap() http.ResponseWriter }:
			w = t.Unwrap()
		default:
			return false
		}
	}
}

func (w *writer) hijack() (net.Conn, *bufio.ReadWriter, error) {
	unseal := w.session.hijacking()
	conn, buf, err := http.NewResponseController(w.inner).Hijack()
	if err != nil {
		unseal()
	}
	return conn, buf, err
}

func (w *writer) readFrom(r io.Reader) (int64, error) {
	w.session.seal(w.inner.Header())
	return w.inner.(io.ReaderFrom).ReadFrom(r)
}

func (w *writer) closeNotify() <-chan bool {
	//lint:ignore SA1019 it is offered because the inner one offers it
	return w.inner.(http.CloseNotifier).CloseNotify()
}

func (w *writer) push(target string, opt *http.PushOptions) error {
	return w.inner.(http.Pusher).Push(target, opt)
}

// wrap returns the writer with just those of the optional interfaces that the inner one has, because code asks for
// them by type assertion. Each combination is a type, which adds one method to another combination; all
// hold one pointer, so none is allocated.
func wrap(w *writer) http.ResponseWriter {
	i := 0
	if _, ok := w.inner.(http.Flusher); ok {
		i |= 1
	}
	if _, ok := w.inner.(http.Hijacker); ok {
		i |= 2
	}
	if _, ok := w.inner.(io.ReaderFrom); ok {
		i |= 4
	}
	//lint:ignore SA1019 see closeNotify
	if _, ok := w.inner.(http.CloseNotifier); ok {
		i |= 8
	}
	if _, ok := w.inner.(http.Pusher); ok {
		i |= 16
	}
	return combinations[i](w)
}
