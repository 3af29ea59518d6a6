// Package sessionchi shows and tests sessionhttp with chi (github.com/go-chi/chi/v5). There is nothing to import:
// chi's middleware is net/http's, so [sessionhttp.Manager.Handler] is one already.
//
//	http.ListenAndServe(addr, m.Handler(r))  // around the whole router
//	r.Use(m.Handler)                         // or for a router, a group or a mount
//	r.With(m.Handler).Get("/cart", cart)     // or for one route
//
// In a handler, sessionhttp.From(r) is the session.
//
// # Where it must stand
//
// Logger, RequestID and Compress go outside of it. Recoverer and [middleware.Timeout], which ends the request's context and no more,
// may stand on either side: a cookie that is due when a handler panics is sent with the 500.
//
// When a request passes it twice, the outer one counts.
//
// [sessionhttp.Manager.Handler]: https://pkg.go.dev/github.com/sessile-go/sessile/sessionhttp#Manager.Handler
// [middleware.Timeout]: https://pkg.go.dev/github.com/go-chi/chi/v5/middleware#Timeout
package sessionchi
