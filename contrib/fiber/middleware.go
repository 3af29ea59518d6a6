package sessionfiber

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"

	"github.com/sessile-go/sessile/sessionhttp"
)

// Middleware gives the requests of an app or a group their sessions. An error of [sessionhttp.Manager.Open], such as
// that the engine is closed, is returned with the status of [sessionhttp.Status] as a *fiber.Error; a token that proves nothing
// is the answer to each use of the session. When a request passes it twice, the outer one counts.
func Middleware(m *sessionhttp.Manager) fiber.Handler {
	return func(c fiber.Ctx) error {
		outer, _ := c.Value(key{}).(*handle)
		if outer.of(m) {
			return c.Next()
		}
		h, err := open(c, m, outer)
		if err != nil {
			return fmt.Errorf("%w: %w", fiber.NewError(sessionhttp.Status(err)), err)
		}
		c.Locals(key{}, h)
		c.SetContext(sessionhttp.NewContext(c.Context(), h.session))
		rctx := c.RequestCtx() // c loses it if a handler times out
		defer func() { h.finish(rctx) }()
		return c.Next()
	}
}

// From returns the session of the request, which may be used when the handler has returned too. It is never nil: that of a
// request which did not pass [Middleware] answers sessionhttp.ErrNoHandler. sessionhttp.FromContext(c.Context()) returns the same.
func From(c fiber.Ctx) *sessionhttp.Session {
	if h, ok := c.Value(key{}).(*handle); ok {
		return h.session
	}
	return sessionhttp.FromContext(context.Background())
}

// WriteCookies writes the cookie that is to be set, if there is one, to the response now, and seals the session, as Middleware does when the
// handler has returned: for code that sends the response itself, with c.End.
func WriteCookies(c fiber.Ctx) {
	for h, _ := c.Value(key{}).(*handle); h != nil; h = h.outer {
		h.finish(c.RequestCtx())
	}
}

// A handle is what Middleware keeps of one request, under key among its values. fasthttp closes those when the response, with its
// stream, has been written, or the hijacked connection has been closed.
type handle struct {
	manager *sessionhttp.Manager
	session *sessionhttp.Session
	outer   *handle // another Manager's
	cancel  context.CancelFunc

	// pending is set by the session until it is sealed, in any goroutine of the handler; then finish's.
	pending *http.Cookie
}

type key struct{}

func open(c fiber.Ctx, m *sessionhttp.Manager, outer *handle) (*handle, error) {
	h := &handle{manager: m, outer: outer, cancel: func() {}}
	base := c.Context()
	if base.Done() != nil { // one that lives longer than the request must not keep what waits for it
		base, h.cancel = context.WithCancel(base)
	}
	var err error
	h.session, err = m.Open(base, cookieHeaders(&c.Request().Header), func(cookie *http.Cookie) { h.pending = cookie })
	if err != nil {
		h.cancel()
		return nil, err
	}
	return h, nil
}

// of reports whether the handle, or one outside of it, is the Manager's.
func (h *handle) of(m *sessionhttp.Manager) bool {
	for ; h != nil; h = h.outer {
		if h.manager == m {
			return true
		}
	}
	return false
}

// finish seals the session and writes what is pending to the response.
func (h *handle) finish(c *fasthttp.RequestCtx) {
	header := http.Header{}
	h.session.WriteCookies(header) // Clear-Site-Data; from here on pending is ours
	if h.pending != nil {
		header.Set("Set-Cookie", h.pending.String())
		header.Set("Cache-Control", "no-store")
		h.pending = nil
	}
	response := &c.Response
	if late := c.LastTimeoutErrorResponse(); late != nil {
		response = late // that is sent; the handler may still be at work on the other one
		defer h.Close() // fasthttp leaves the request's values to it
	}
	for name, values := range header {
		response.Header.Set(name, values[0]) // fasthttp adds a Set-Cookie to those that there are
	}
}

// Close ends what the session's Done holds. The session can still be used.
func (h *handle) Close() error {
	h.cancel()
	h.session.Close()
	if h.outer != nil {
		return h.outer.Close()
	}
	return nil
}
