// Package sessionhttp gives the requests of a net/http server their sessions.
//
//	m, err := sessionhttp.New(engine, sessionhttp.Options{})
//	http.ListenAndServe(addr, m.Handler(mux))
//
// In a handler, [From] returns the session of the request:
//
//	s := sessionhttp.From(r)
//	err := s.Update(r.Context(), func(tx sessile.Txn) error { … })
//
// There is no load at the start of a request and no save at its end. Each Update
// is a transaction of its own, committed when it returns, so overlapping
// requests cannot lose each other's changes, nothing needs to be buffered, and handlers stream, hijack
// and upgrade as without the middleware. Only a cookie needs the header: making a session, logging in
// and renewing are refused with [ErrHeadersSent], before anything changes, once it has gone out.
//
// # Tokens
//
// The cookie holds a token of the engine's ([sessile.Txn.NewToken]), of which the disk has only a hash. What
// it proves is checked inside each transaction: after a login elsewhere an older handle
// answers [sessile.ErrRenewed], applies nothing, and its Done channel is closed.
//
// A token that proves nothing gives no access, makes no session and sets no cookie, because a newer cookie may be
// on its way to the same browser. It is one of
//
//   - [sessile.ErrRenewed]: replaced within the last minute (and by not more than seven logins, which is what a session
//     remembers); the browser has, or is about to get, a newer one
//   - [sessile.ErrEnded]: its session ended within the last minute
//   - [sessile.ErrNoToken]: everything else: malformed, doubled, expired, made up
//
// A page that a person opens answers the last two with [Session.Restart]; a script's request answers all of them with
// status 401 ([Status]). Login works in spite of ErrEnded and ErrNoToken.
//
// # Where it must stand
//
// Handler wraps what writes the response. It goes outside of [http.TimeoutHandler], which drops the headers that were set inside of
// it when the time is over, and with them cookies. Websocket libraries ignore the writer's header: make the session before the upgrade, or give them the
// header that [Session.WriteCookies] has filled in. docs/http.md of the module is the guide, from here to OAuth flows.
package sessionhttp
