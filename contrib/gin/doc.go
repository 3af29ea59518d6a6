// Package sessiongin gives the routes of a gin server (github.com/gin-gonic/gin) their sessions. There are two ways.
//
// # The whole server
//
// Wrap the engine. Nothing of this package is needed, and nothing of gin's is in the way; prefer it.
//
//	router := gin.Default()
//	http.ListenAndServe(addr, m.Handler(router))   // instead of router.Run(addr)
//
// # A group of routes
//
// gin records a status and writes it later, past what its middleware has put around its writer, so that m.Handler cannot be
// mounted inside of gin as it is. [Middleware] can:
//
//	cart := router.Group("/cart", sessiongin.Middleware(m))
//
// In a handler, [From] returns the session, either way:
//
//	err := sessiongin.From(c).Update(c.Request.Context(), func(tx sessile.Txn) error { … })
//
// # Where it must stand
//
// Recovery may stand on either side: a cookie that is due when a handler panics is sent with the 500. What answers from a
// buffer that it may throw away, such as a timeout middleware, and what compresses goes outside of Middleware.
// A handler inside a group that calls [gin.Engine.HandleContext] goes on with gin's own writer: if the new route has no Middleware, call
// From(c).WriteCookies(c.Writer.Header()) before, or wrap the whole server.
package sessiongin
