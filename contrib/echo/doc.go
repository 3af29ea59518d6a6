// Package sessionecho shows and tests sessionhttp with echo v5 (github.com/labstack/echo/v5). There is nothing to import.
//
// # The whole server
//
// An Echo is an http.Handler; wrap it. Prefer this: echo's error handler then has the session too.
//
//	e := echo.New()
//	http.ListenAndServe(addr, m.Handler(e))
//
// # A group of routes
//
//	cart := e.Group("/cart", echo.WrapMiddleware(m.Handler))
//
// echo handles a returned error when the group's middleware is done. The cookie that is due goes out with the error's answer, but
// an HTTPErrorHandler that needs one itself, such as to add a flash message to a new session, is answered with
// sessionhttp.ErrHeadersSent; on a session that there is it may Update. With ContextTimeout the request's context has ended by then: give
// Update context.WithoutCancel of it.
//
// In a handler, either way, sessionhttp.From(c.Request()) is the session. To pass on an error of it:
//
//	return echo.NewHTTPError(sessionhttp.Status(err), "no session").Wrap(err)
//
// # Where it must stand
//
// RequestLogger, RequestID and Gzip go outside; Gzip holds back the status of a websocket's upgrade, with or without sessions, unless
// its Skipper lets it pass. Recover and ContextTimeout may stand on either side: a cookie that is due when a handler
// panics is sent with the 500. When a request passes the same Manager's Handler twice, the outer one counts.
package sessionecho
