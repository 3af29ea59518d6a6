// Package sessionfiber gives the requests of a fiber v3 server (github.com/gofiber/fiber/v3) their sessions.
//
//	app := fiber.New()
//	app.Use(sessionfiber.Middleware(m))                 // m is a *sessionhttp.Manager; or a group: app.Group("/cart", …)
//
//	s := sessionfiber.From(c)                           // in a handler: never nil
//	err := s.Update(c.Context(), func(tx sessile.Txn) error { … })
//
// The handle is that of net/http, [sessionhttp.Session]. What is different comes from fasthttp, which fiber stands on:
//
//   - The header goes out when the handler has returned. Until then a cookie can be set, whatever has been written; from then on what
//     needs one is [sessionhttp.ErrHeadersSent]. c.End sends the header earlier: call [WriteCookies] before it.
//   - fasthttp does not tell when a client has gone, and c.Context() does not end by itself: a call waits for a
//     busy session for as long as the engine's LockTimeout, unless you give it a context that ends.
//   - c is used again for other requests. Code that runs when the handler has returned (goroutines, body streams, websockets) must
//     not touch it: take the handle before. What you give the engine, c.FormValue for one, is copied; what your own callbacks keep
//     you must copy yourself.
//
// # Streams and sockets
//
// A writer of SendStreamWriter runs beside and after the handler. Make the session in the handler, with Ensure; the writer may then
// Update and Wait for as long as it likes. Done is closed when the response has been written or has failed to be, when a hijacked
// connection has been closed, when the context ends that c.Context() was when the request came to Middleware, and when the session ends.
//
// A client that has gone is noticed by the next Flush, so a writer that only waits would wait for ever: bound each Wait by a timeout, and write a
// comment then, as the example of [From] does.
//
// A websocket's upgrade by github.com/fasthttp/websocket sends the response's header, and the cookie with it.
//
// # Where it must stand
//
// Recover, compress and etag go outside of Middleware: the cookie is in the response when they see it, also after a panic or an
// error. compress and etag hold back what a stream writes; skip them there with their Config.Next. encryptcookie goes outside too, and
// must be told to leave the cookie alone with its Config.Except: the token is read as it came over the wire.
//
// The timeout middleware wraps a route's handler, and so stands inside. A handler that goes on after its timeout can set no cookie; one
// that was set before goes out with the 408. Do not wrap Middleware itself in it.
package sessionfiber
