// Package latesave is what the adapters for load-and-save session libraries have in common. Such a library loads all of a
// session's values at the start of a request and saves all of them at its end. The adapters turn each save into the
// changes that the request made, and apply those to the session as it is by then.
//
// A [Snapshot] remembers the fields that a request loaded. [Snapshot.Diff] compares them with the values that it wants
// to save, and [Changes.Apply] stages the difference in a transaction. [Encode] and [Decode] turn values into fields,
// [Digest] finds out whether a value was changed, in place too, and a [WeakMap] ties what was loaded to the object that
// the library carries through the request.
//
// The package is for the modules beside it, contrib/scs and contrib/gorilla; applications use those.
package latesave
