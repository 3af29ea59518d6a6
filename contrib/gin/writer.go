package sessiongin

import (
	"bufio"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sessile-go/sessile/sessionhttp"
)

// A writer seals the session before gin writes its header. WriteHeader is gin's: it only records the status, and
// what needs a cookie may still follow. Like gin's it stays in c.Writer when the middleware has returned, since what stands
// outside may answer through it.
type writer struct {
	gin.ResponseWriter
	outer   http.ResponseWriter // sessionhttp's, around the embedded one
	session *sessionhttp.Session
}

// wrapped reports whether the session has a writer already.
func wrapped(w http.ResponseWriter, s *sessionhttp.Session) bool {
	for {
		if own, ok := w.(*writer); ok && own.session == s {
			return true
		}
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = outer.Unwrap()
	}
}

// seal writes the cookies to the header. Nothing is left to write the second time.
func (w *writer) seal() { w.session.WriteCookies(w.Header()) }

func (w *writer) WriteHeaderNow() {
	if code := w.Status(); code >= 200 || code == http.StatusSwitchingProtocols {
		w.seal()
	}
	w.ResponseWriter.WriteHeaderNow()
}

func (w *writer) Write(b []byte) (int, error) {
	w.seal()
	return w.ResponseWriter.Write(b)
}

func (w *writer) WriteString(s string) (int, error) {
	w.seal()
	return w.ResponseWriter.WriteString(s)
}

func (w *writer) Flush() {
	w.seal()
	w.ResponseWriter.Flush()
}

// Hijack goes through sessionhttp's writer, which lets the session outlive its request.
func (w *writer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buf, err := w.outer.(http.Hijacker).Hijack()
	if err == nil {
		w.session.Seal()
	}
	return conn, buf, err
}

// Unwrap is for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
