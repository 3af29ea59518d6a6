// Package gorillastore keeps the sessions of [github.com/gorilla/sessions] in a Sessile engine, so that requests which
// overlap stop losing each other's writes and stop undoing logouts. The application's handlers stay as they are.
//
// Before:
//
//	store := sessions.NewFilesystemStore("sessions", authKey)
//
// After:
//
//	store, err := gorillastore.New(engine, authKey)
//
// gorilla's stores load all values on Get and write all of them on Save. This one turns each Save into the changes that were
// made since (values set, changed in place, and deleted), and applies those in one transaction to the session as it is by then.
//
//   - Writes of different keys are all kept.
//   - A Save of a session that has ended, or whose cookie a newer login has replaced, applies nothing and returns [ErrGone].
//   - A Save without changes writes nothing; it extends the session's life.
//   - Flashes added by overlapping requests are all kept, and taking them takes those that the request has seen. A list of
//     flashes is a value of type []interface{}, under any key; each such value is merged by its items.
//   - Saving with Options.MaxAge < 0 ends the session, for good and whatever else goes on.
//   - The cookie, signed as by gorilla's own stores, holds a token of the engine's, which keeps only its hash. Session.ID is
//     the engine's id: a name, not a secret, and it may be logged. An ID that the application makes up is refused with [ErrForeign].
//   - At a login, set Session.ID to "" before Save: the session goes on under a new token, and the old one is worthless from then on.
//
// # What stays different, and what stays the same
//
// The same key changed by two overlapping requests is still last write wins, and both may take the same flash: each read it
// before the other wrote. Where that matters, use a transaction, on keys of the engine's, beside gorilla's values in the same session:
//
//	err := engine.Update(ctx, session.ID, func(tx sessile.Txn) error {
//		_, err := sessile.Add(tx, visits, 1)
//		return err
//	})
//
// A session lives for its MaxAge after its last Save, as with gorilla's stores, but never longer than the engine's
// Lifetime. With MaxAge 0 the cookie is the browser's until it closes, as gorilla's Options say, and the engine's IdleTimeout applies;
// FilesystemStore and some others delete the session instead: an application that logs out so sets [Store.EndAtZero].
//
// Get of a session that has ended or expired returns a new one and no error. A value that can no longer be decoded counts as
// absent and stays in the store until its key is set; [Store.OnDecodeError] may decide otherwise. New cookies are Secure,
// HttpOnly and SameSite=Lax unless [Store.Options] say otherwise: over plain http, in development, set Secure to false. Keys
// and values are encoded with gob; their types must be registered, as with gorilla's stores. Sessions larger than the engine's
// MaxSessionSize are refused with sessile.ErrTooLarge.
//
// A session must be saved as the *sessions.Session that Get or New has returned, not as a copy.
//
// Package audit, below this one, counts what an application loses with the store that it has today.
package gorillastore
