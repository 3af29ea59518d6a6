// Package sessile is an in-process session engine: short transactions on
// sessions that cannot race, kept in memory and written behind to disk.
//
// Web session libraries load a session, let the handler change it, and save
// all of it at the end. Requests of one user overlap, so the last save wins: updates
// vanish, and a late one undoes a logout. An [Engine] has no load and no save. It has
//
//	err := engine.Update(ctx, id, func(tx sessile.Txn) error {
//		_, err := sessile.Add(tx, visits, 1)
//		return err
//	})
//
// which runs alone on its session, is seen whole or not at all, and returns when
// the change is in memory.
//
// # Guarantees
//
// Updates of a session have one order, and each sees all before it. A View sees a committed state
// and waits for nobody. UpdateMany and ViewMany are atomic over many sessions.
// An error or a panic in a callback changes nothing. A session that has ended
// stays ended: no running callback, late load or crash brings it back once Delete
// has returned.
//
// # Durability
//
// A commit reaches the disk within [Options.FlushInterval] (100 ms); a crash loses at most the commits of that
// window, the newest ones, across all sessions: what is recovered is the history up to
// some moment, without holes. [Txn.Durable] makes one Update wait for the disk, together with all others
// that wait just then. Delete, DeleteUser, KeepNewest, Flush and Close always wait.
//
// # Values
//
// A session maps keys to values, which are bytes. A [Key] gives a value a type:
//
//	var visits = sessile.NewKey[int]("visits")
//
// # Errors
//
// Failures are sentinel errors, to be tested with errors.Is; see their
// documentation. Of all of them only [ErrDurabilityUnknown] leaves a change in place.
//
// # Ids and tokens
//
// A session id is a name. It proves nothing and may be logged. The right to a
// session is proven by a token, which [Txn.NewToken] makes and [Engine.Resolve] checks: put
// that into the cookie, never the id.
package sessile
