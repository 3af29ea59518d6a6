package sessile

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"
)

// NoTimeout, as [Options.IdleTimeout], [Options.Lifetime] or the argument of
// [Txn.SetIdleTimeout], means that time alone ends nothing.
const NoTimeout time.Duration = -1

// Limits that no option changes.
const (
	// MaxIDLen is the greatest length of a session id and of a user name, in bytes.
	MaxIDLen = 256
	// MaxKeyLen is the greatest length of a key, in bytes.
	MaxKeyLen = 255
	// MaxKeys is the greatest number of keys in one session.
	MaxKeys = 65_000
	// MaxIDs is the greatest number of ids in one UpdateMany, UpsertMany or ViewMany.
	MaxIDs = 4096
)

// The bounds of [Options.MaxSessionSize], in bytes. A record must stay well
// below 1 MiB, the most that the store keeps in one piece.
const (
	minSessionSize = 1 << 10
	maxSessionSize = 512 << 10
)

// Options configure an [Engine]. Set Dir or InMemory; the zero value of every
// other field is a sound default. [Open] copies them, fills in the defaults,
// and names the field in the error when one is out of range.
type Options struct {
	// Dir is the directory that holds the data. It is made, readable by its owner
	// only, when it does not exist. One engine at a time can have it open.
	Dir string

	// InMemory keeps everything in memory: same semantics, no disk, nothing
	// survives Close. Durable calls return at once. It excludes Dir. Because
	// nothing can be evicted, a change that would exceed MaxMemory is refused
	// with ErrTooLarge. It works inside a testing/synctest bubble.
	InMemory bool

	// IdleTimeout ends a session that was not touched for that long. At least
	// 10 ms. 0 means 24 hours, NoTimeout never. Txn.SetIdleTimeout overrides it for one
	// session.
	IdleTimeout time.Duration

	// Lifetime ends a session that long after its creation, however busy it
	// is. At least 10 ms. 0 means 30 days, NoTimeout never. Txn.SetDeadline overrides it for
	// one session.
	Lifetime time.Duration

	// FlushInterval is the loss window: a commit that was not asked to be
	// durable is on disk within this time (plus the writes under way). A crash of
	// the process or the machine loses at most the commits of that window, the
	// newest ones. 0 means 100 ms; 1 ms to 1 minute.
	FlushInterval time.Duration

	// CheckpointInterval is how often changed sessions are written to their
	// records so that the log can be cut. Longer means less writing and a
	// longer recovery after a crash. 0 means 30 s; 10 ms to 1 hour.
	CheckpointInterval time.Duration

	// MaxMemory bounds the bytes of hot sessions. Beyond it, sessions not used
	// lately are evicted to disk and loaded again on their next use. 0 means 1 GiB; at
	// least 1 MiB. The store itself takes about 50 MiB on top, and
	// several hundred while it compacts under heavy writing.
	MaxMemory int64

	// MaxSessionSize bounds one session: its keys and values with 4 bytes for
	// each key. 0 means 64 KiB; 1 KiB to 512 KiB. A session that is larger already, because
	// the limit was lowered, can change but not grow.
	MaxSessionSize int

	// MaxAnonymous bounds the number of sessions without a user, hot and cold.
	// One more is refused with ErrTooMany. 0 means no bound.
	MaxAnonymous int

	// MaxLogBytes bounds the write-behind log. At half of it a checkpoint begins,
	// at the whole new changes wait (under their context) for it to end.
	// 0 means 256 MiB; at least 1 MiB.
	MaxLogBytes int64

	// MaxWaiters bounds the calls that wait for one session's lock. One more is
	// refused with ErrBusy. 0 means 4096; at least 1.
	MaxWaiters int

	// LockTimeout bounds the wait for a session's lock; it ends in ErrBusy.
	// 0 means 5 s; at least 1 ms.
	LockTimeout time.Duration

	// SlowTxn is how long a callback may hold its session before it is logged,
	// once, with the place of the callback. 0 means 100 ms; at least 1 ms.
	SlowTxn time.Duration

	// EncryptionKeys encrypt what is stored (XChaCha20-Poly1305): each 32 bytes, the
	// first writes, all read. To rotate, put a new key in front and keep the old
	// ones until the longest lifetime of a session has passed. Session ids are
	// names, not secrets, and stay readable; user names do not. A directory is encrypted from its
	// first Open or never. nil: not encrypted.
	EncryptionKeys [][]byte

	// TokensNotBefore makes all tokens issued earlier worthless, with the
	// sessions kept. Set it to the present after restoring a backup, which
	// brings back sessions that have ended since, or to make everyone log in again.
	TokensNotBefore time.Time

	// DiskReserve is the free space, in bytes, below which nothing is written
	// any more (ErrDiskFull), because the store maps its files and a full disk
	// would end the process. 0 means 448 MiB; negative turns the check off.
	DiskReserve int64

	// AcceptDataLoss opens a directory whose log is damaged or shorter than it
	// was when it was last closed, with what is left of it. Without it Open
	// returns ErrCorrupt.
	AcceptDataLoss bool

	// CloseTimeout bounds Close, and how long an Open that failed waits for the store to close. 0 means 30 s; at least 1 ms.
	CloseTimeout time.Duration

	// Logger receives slow transactions, failures and the progress of a long
	// recovery. nil discards.
	Logger *slog.Logger

	// OnEnd is called once for every session that ends, after the end took effect, outside all
	// locks: on the goroutine of the Delete, Update, DeleteUser or KeepNewest that ended it, or, for
	// expiry, on one of the engine's. A callback that blocks delays only
	// the news of later expiries. It may use the engine. Its panics are logged.
	// After a crash an end that was not yet durable can be reported again.
	OnEnd func(Info, Reason)

	// OnDecodeError is asked when a Key finds a value it cannot decode. Its error is what
	// the Key's method returns; nil makes the value count as absent. Without it the
	// method returns err.
	OnDecodeError func(id, key string, value []byte, err error) error
}

// withDefaults returns a copy with the defaults filled in.
func (o Options) withDefaults() Options {
	setDefault(&o.IdleTimeout, 24*time.Hour)
	setDefault(&o.Lifetime, 30*24*time.Hour)
	setDefault(&o.FlushInterval, 100*time.Millisecond)
	setDefault(&o.CheckpointInterval, 30*time.Second)
	setDefault(&o.MaxMemory, 1<<30)
	setDefault(&o.MaxSessionSize, 64<<10)
	setDefault(&o.MaxLogBytes, 256<<20)
	setDefault(&o.MaxWaiters, 4096)
	setDefault(&o.LockTimeout, 5*time.Second)
	setDefault(&o.SlowTxn, 100*time.Millisecond)
	setDefault(&o.CloseTimeout, 30*time.Second)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	keys := make([][]byte, len(o.EncryptionKeys))
	for i, k := range o.EncryptionKeys {
		keys[i] = append([]byte(nil), k...)
	}
	o.EncryptionKeys = keys
	return o
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate returns an error that names the first field out of range. It is
// called on options with defaults.
func (o *Options) validate() error {
	switch {
	case o.Dir == "" && !o.InMemory:
		return fmt.Errorf("sessile: Options.Dir is empty and InMemory is not set")
	case o.Dir != "" && o.InMemory:
		return fmt.Errorf("sessile: Options.Dir and InMemory exclude each other")
	case o.InMemory && len(o.EncryptionKeys) > 0:
		return fmt.Errorf("sessile: Options.EncryptionKeys and InMemory exclude each other")
	case o.MaxAnonymous < 0:
		return outOfRange("MaxAnonymous", o.MaxAnonymous)
	}
	const longest = 1 << 62
	for _, f := range []struct {
		name     string
		value    int64
		min, max int64
		duration bool
		none     bool // NoTimeout is allowed
	}{
		{"IdleTimeout", int64(o.IdleTimeout), int64(10 * time.Millisecond), longest, true, true},
		{"Lifetime", int64(o.Lifetime), int64(10 * time.Millisecond), longest, true, true},
		{"FlushInterval", int64(o.FlushInterval), int64(time.Millisecond), int64(time.Minute), true, false},
		{"CheckpointInterval", int64(o.CheckpointInterval), int64(10 * time.Millisecond), int64(time.Hour), true, false},
		{"MaxMemory", o.MaxMemory, 1 << 20, longest, false, false},
		{"MaxSessionSize", int64(o.MaxSessionSize), minSessionSize, maxSessionSize, false, false},
		{"MaxLogBytes", o.MaxLogBytes, 1 << 20, longest, false, false},
		{"MaxWaiters", int64(o.MaxWaiters), 1, 1 << 30, false, false},
		{"LockTimeout", int64(o.LockTimeout), int64(time.Millisecond), longest, true, false},
		{"SlowTxn", int64(o.SlowTxn), int64(time.Millisecond), longest, true, false},
		{"CloseTimeout", int64(o.CloseTimeout), int64(time.Millisecond), longest, true, false},
	} {
		if f.none && f.value == int64(NoTimeout) {
			continue
		}
		if f.value < f.min || f.value > f.max {
			if f.duration {
				return outOfRange(f.name, time.Duration(f.value))
			}
			return outOfRange(f.name, f.value)
		}
	}
	for i, k := range o.EncryptionKeys {
		if len(k) != 32 {
			return fmt.Errorf("sessile: Options.EncryptionKeys[%d] has %d bytes, want 32", i, len(k))
		}
	}
	return nil
}

func outOfRange(field string, value any) error {
	return fmt.Errorf("sessile: Options.%s out of range: %v", field, value)
}

// shardCount is a power of two, large enough that the shards' latches are
// seldom contended, and small enough that the heads of shards and maps stay in the
// first-level cache and that a cut, which takes all the latches, costs a few microseconds.
func shardCount() int {
	n := 16
	for n < 8*runtime.GOMAXPROCS(0) {
		n *= 2
	}
	return n
}
