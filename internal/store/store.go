// Package store keeps the engine's keys and values on disk. It knows nothing
// of sessions: the engine hands it batches that it must apply whole, durably
// and in order, and reads single keys and pages of keys back.
//
// The engine never has two batches in flight that write the same key.
package store

import (
	"errors"
	"fmt"
)

var (
	// ErrFull means that a batch was refused before anything of it was
	// written: the disk has less room than the reserve, or no file descriptors
	// are left. The store stays usable; the batch may be tried again.
	ErrFull = errors.New("disk full")

	// ErrLocked means that the directory is open elsewhere.
	ErrLocked = errors.New("directory is in use")

	// ErrCorrupt means that a file of the store is damaged or missing.
	ErrCorrupt = errors.New("store damaged")

	// ErrTooLarge means that a batch exceeds Limits.
	ErrTooLarge = errors.New("batch too large")

	// ErrClosed means that Close was called before.
	ErrClosed = errors.New("store closed")
)

// An Op is one write of a batch: a value to be set, or, with a nil Value, a key
// to be deleted. An empty value is not nil.
type Op struct {
	Key   []byte
	Value []byte
}

// Size is what an Op counts against Limits.Bytes.
func (o Op) Size() int { return len(o.Key) + len(o.Value) + opOverhead }

// opOverhead covers what a store adds to each entry of a batch.
const opOverhead = 64

// Limits of one batch.
type Limits struct {
	Bytes int // the sum of Op.Size
	Ops   int
	Value int // the largest value, in bytes
}

// check returns ErrTooLarge for a batch that exceeds the limits.
func (l Limits) check(ops []Op) error {
	size := 0
	for _, op := range ops {
		size += op.Size()
		if len(op.Value) > l.Value {
			return fmt.Errorf("%w: value of %d bytes", ErrTooLarge, len(op.Value))
		}
	}
	if size > l.Bytes || len(ops) > l.Ops {
		return fmt.Errorf("%w: %d ops of %d bytes", ErrTooLarge, len(ops), size)
	}
	return nil
}

// A Store is safe for concurrent use. All errors but ErrFull and ErrTooLarge
// from Commit leave open whether the batch was applied: the caller must treat
// the store as failed and call nothing but Close afterwards.
type Store interface {
	// Commit applies the batch atomically. It is on disk when Commit returns
	// nil, and then every batch whose Commit returned before is, too. The store
	// does not keep the ops' memory.
	Commit(ops []Op) error

	// Get appends the value of key to dst. It sees every batch whose Commit has
	// returned.
	Get(key, dst []byte) (value []byte, ok bool, err error)

	// Scan calls fn for the keys that begin with prefix and are greater than
	// after (nil: from the first one), in order, until fn returns false. k and v
	// are valid until fn returns; v is nil when keysOnly. It sees at least the
	// batches whose Commit had returned before Scan was called. fn must not call
	// the store.
	Scan(prefix, after []byte, keysOnly bool, fn func(k, v []byte) bool) error

	// Append adds entries to the end of the log, which is apart from what
	// Commit writes. They are on disk when it returns nil, and then every one whose Append
	// returned before is, too. A crash may leave any of those whose Append has not returned.
	// Keys have at most 31 bytes, and are greater than any that was appended before. Two appends
	// do not overlap. Errors and limits are those of Commit.
	Append(entries []Op) error

	// Replay calls fn for the entries of the log whose keys are greater than after (nil: from the
	// first one), in order, until fn returns false. k and v are valid until fn
	// returns. One that is damaged or was torn by a crash is not there. Neither Append nor Trim runs meanwhile.
	Replay(after []byte, fn func(k, v []byte) bool) error

	// Trim deletes the entries whose keys are less than before, and returns how many they were and the sum of
	// the lengths of their values, also with an error. A crash later may bring some of them back; but not those that
	// were there when the store was opened, if all of these are trimmed. Two trims do not overlap. After
	// ErrFull it is to be called again.
	Trim(before []byte) (n int, bytes int64, err error)

	// Limits are those of one Commit, and of one Append.
	Limits() Limits

	// Mark returns the last number given to SetMark in any earlier life of
	// the directory, and whether there is one.
	Mark() (uint64, bool)

	// SetMark keeps a number durably beside the data, outside of it, so that a
	// loss of the data's tail can be noticed.
	SetMark(n uint64) error

	// Close releases the directory. It may hang on a dead disk.
	Close() error
}
