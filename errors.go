package sessile

import (
	"errors"
	"fmt"
)

// The errors that callers can act on. Test for them with [errors.Is]: most
// come wrapped with the operation and the session id.

// Errors about the session.
var (
	// ErrNotFound is returned when no session has the id: it never existed,
	// it was deleted, or it expired. An [Engine.Update] whose session ends
	// while its callback runs applies nothing and returns it too.
	ErrNotFound = errors.New("sessile: session not found")

	// ErrExists is returned by [Engine.CreateID] when a live session has the id.
	ErrExists = errors.New("sessile: session exists")

	// ErrBusy is returned when a session's lock was not to be had within
	// [Options.LockTimeout], or [Options.MaxWaiters] calls already wait for it.
	// Nothing was changed; the call may be tried again.
	ErrBusy = errors.New("sessile: session busy")
)

// Errors about the use of a transaction.
var (
	// ErrReentrant is returned by a verb called inside a callback with that
	// callback's [Txn.Context]. It would wait for itself.
	ErrReentrant = errors.New("sessile: called inside a transaction")

	// ErrReadOnly is returned by the writing methods of a [Txn] in a View.
	ErrReadOnly = errors.New("sessile: transaction is read-only")

	// ErrTxnDone is returned by the methods of a [Txn] whose callback has
	// returned, and of the zero Txn.
	ErrTxnDone = errors.New("sessile: transaction has ended")
)

// Errors about the arguments.
var (
	// ErrTooLarge is returned when a value, a session or a transaction exceeds
	// its limit, and by an in-memory engine whose [Options.MaxMemory] is used up.
	ErrTooLarge = errors.New("sessile: too large")

	// ErrTooMany is returned when a session without a user would exceed
	// [Options.MaxAnonymous].
	ErrTooMany = errors.New("sessile: too many anonymous sessions")

	// ErrInvalidID is returned for a session id or a user name that is empty
	// or longer than [MaxIDLen] bytes.
	ErrInvalidID = errors.New("sessile: invalid id")

	// ErrInvalidKey is returned for a key that is empty, longer than
	// [MaxKeyLen] bytes, or reserved.
	ErrInvalidKey = errors.New("sessile: invalid key")
)

// Errors about the engine and its disk.
var (
	// ErrClosed is returned by every verb once the engine is closing.
	ErrClosed = errors.New("sessile: engine closed")

	// ErrDirLocked is returned by [Open] when another engine, in this process
	// or another, has the directory open.
	ErrDirLocked = errors.New("sessile: directory is in use")

	// ErrDiskFull is returned before anything is changed, when the disk has
	// less than [Options.DiskReserve] free or the process has no file
	// descriptors left. It goes away when there is room again.
	ErrDiskFull = errors.New("sessile: disk full")

	// ErrPersistence is returned once the store has failed. It is final:
	// hot sessions can still be read, nothing can be written, and only a new
	// Open, which recovers what is durable, ends it.
	ErrPersistence = errors.New("sessile: store failed")

	// ErrDurabilityUnknown is returned when a change stands in memory but was
	// not confirmed to be on disk: the context ended first, the disk is full or
	// the store failed. It wraps that cause. The change is not rolled back.
	ErrDurabilityUnknown = errors.New("sessile: durability unknown")

	// ErrCorrupt is returned when stored data is damaged or missing.
	ErrCorrupt = errors.New("sessile: data corrupt")

	// ErrUnsupported is returned for data in an unknown format, or encrypted
	// with a key that [Options.EncryptionKeys] does not hold.
	ErrUnsupported = errors.New("sessile: unsupported format or key")
)

// Errors about tokens, from [Engine.Resolve]. None of them gives access.
var (
	// ErrNoToken is returned for a token that is malformed, unknown or too old.
	ErrNoToken = errors.New("sessile: no such token")

	// ErrRenewed is returned for a token that a newer one replaced within the
	// last minute.
	ErrRenewed = errors.New("sessile: token renewed")

	// ErrEnded is returned for a token whose session ended within the last
	// minute.
	ErrEnded = errors.New("sessile: session ended")
)

// A ShutdownError is returned by [Engine.Shutdown] and [Engine.Close] when the
// context ended, or the store failed, before everything was closed. What had
// been acknowledged as durable is safe; Shutdown may be called again to go on
// waiting.
type ShutdownError struct {
	// Running is the number of callbacks that have not returned.
	Running int
	// Undurable reports whether commits are not known to be on disk.
	Undurable bool
	// Cause is the context's error or the store's.
	Cause error
}

func (e *ShutdownError) Error() string {
	s := fmt.Sprintf("sessile: shutdown incomplete: %d callbacks running", e.Running)
	if e.Undurable {
		s += ", commits not known to be durable"
	}
	return s + ": " + e.Cause.Error()
}

// Unwrap returns the cause.
func (e *ShutdownError) Unwrap() error { return e.Cause }

// durabilityUnknown wraps the cause of a commit that stands unconfirmed.
func durabilityUnknown(cause error) error {
	return fmt.Errorf("%w: %w", ErrDurabilityUnknown, cause)
}
