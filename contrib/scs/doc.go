// Package scsstore keeps the sessions of [github.com/alexedwards/scs/v2] in a Sessile engine, so that requests which
// overlap stop losing each other's writes and stop undoing logouts. The application's handlers stay as they are.
//
// Before:
//
//	sm := scs.New()
//	sm.Store = memstore.New()
//
// After:
//
//	sm := scs.New()
//	store, err := scsstore.New(engine, scsstore.Options{})
//	sm.Store, sm.Codec = store, store.Codec()
//
// scs loads all values at the start of a request and commits all of them at its end. The Store and its Codec turn each
// commit into the changes that the request made (keys set, changed in place, and removed, and the deadline), and apply those in
// one transaction to the session as it is by then.
//
//   - Writes of different keys are all kept.
//   - A commit to a session that has ended, by Destroy, RenewToken, expiry or the engine's own verbs, applies nothing and returns
//     [ErrGone]. scs hands it to the ErrorFunc, which answers 500 by default; [IgnoreGone] lets the response go out without a cookie.
//   - A request that only reads writes nothing, also with an IdleTimeout, for which scs commits on every request.
//   - RenewToken moves the session as it is at that moment, with what other requests have written to it by then. Of several
//     that overlap, or overlap a Destroy, the first wins and the others get ErrGone.
//   - Destroy is final, durable, and goes on when the request is cancelled.
//
// # What stays different, and what stays the same
//
// The same key changed by two overlapping requests is still last write wins, and two overlapping Pops can both get the value: each
// read it before the other wrote. Where that matters, use a transaction, on keys of the engine's, beside scs's values in the same
// session. RenewToken carries them along:
//
//	err := engine.Update(ctx, store.ID(sm.Token(ctx)), func(tx sessile.Txn) error {
//		_, err := sessile.Add(tx, visits, 1)
//		return err
//	})
//
// Clear removes the keys that the request has seen; one that another request adds meanwhile stays. RenewToken with keys removed
// in the same request, as some logouts do, carries over what that request has seen, and nothing else.
//
// A value that can no longer be decoded (its type was renamed, say) counts as absent, and stays in the store until its key is set; with scs's
// own codec it fails each request, Destroy included. [Options.OnDecodeError] may decide otherwise.
//
// Sessions are stored under the SHA-256 of their token; leave HashTokenInStore off. The tokens that Iterate shows are
// names good for Destroy, RenewToken and Commit there, not for a cookie. Keys longer than [MaxKeyLen] are refused with
// sessile.ErrInvalidKey, sessions larger than the engine's MaxSessionSize with sessile.ErrTooLarge.
//
// Package audit, below this one, counts what an application loses with the store that it has today.
package scsstore
