package sessiongin

import (
	"context"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/sessile-go/sessile/sessionhttp"
)

// Middleware gives the requests of a group their sessions. Cookies are written with gin's header, or when the rest of the
// chain has returned or panicked; what needs one is then answered with [sessionhttp.ErrHeadersSent]. When a request passes it twice, or
// the whole server is wrapped in the same Manager's Handler, there is still one session.
func Middleware(m *sessionhttp.Manager) gin.HandlerFunc {
	return func(c *gin.Context) {
		m.Handler(http.HandlerFunc(func(outer http.ResponseWriter, r *http.Request) {
			c.Request = r
			s := sessionhttp.From(r)
			if !wrapped(c.Writer, s) {
				w := &writer{ResponseWriter: c.Writer, outer: outer, session: s}
				c.Writer = w
				// A status without a body is written by gin past c.Writer, when the chain has returned.
				defer w.seal()
			}
			c.Next()
		})).ServeHTTP(c.Writer, c.Request)
	}
}

// From returns the session of the request. It is never nil: that of a request which passed neither [Middleware] nor
// [sessionhttp.Manager.Handler] answers sessionhttp.ErrNoHandler.
func From(c *gin.Context) *sessionhttp.Session {
	if c.Request == nil { // a context of gin.CreateTestContext
		return sessionhttp.FromContext(context.Background())
	}
	return sessionhttp.From(c.Request)
}
