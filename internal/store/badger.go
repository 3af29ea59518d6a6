package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
)

// A badgerStore keeps the keys in Badger, in managed mode with timestamps of
// its own. Read with the clock of an ordinary Badger transaction, a Get waits for every commit in flight;
// read at the greatest timestamp it does not, and still sees every batch whose Commit has returned.
//
// Badger maps its files, so a disk that is full, read-only or gone is a SIGBUS that no code can undo, and
// running out of descriptors is fatal to it. All of these are therefore looked at before each batch.
//
// SyncWrites makes a commit's own msync part of it. DB.Sync does not do that
// for commits before a rotation of the memtable, and is never called.
type badgerStore struct {
	dir      string
	data     string // the part of dir that is Badger's
	manifest string // a file that is always in it; empty when it is new
	reserve  int64
	db       *badger.DB
	log      *segmentLog
	inode    inode // of data; set by the first writable
	limits   Limits
	ts       atomic.Uint64 // the last commit timestamp given out

	// Held for reading by each call, for writing by Close: Badger panics when it is
	// called while it closes.
	life   sync.RWMutex
	closed bool // guarded by life

	mark   uint64
	marked bool

	opened time.Time
	looked time.Duration // when the room was last looked at for Append, since opened; Append's
}

// An inode says which directory a path leads to.
type inode struct{ device, number uint64 }

// BadgerOptions configure OpenBadger.
type BadgerOptions struct {
	MemTableSize int64        // bytes; 0 means 16 MiB
	DiskReserve  int64        // bytes; 0 means 24 memtables and 64 MiB; negative: no check
	SegmentSize  int64        // of the log's first file, in bytes; 0 means 4 MiB
	Logger       *slog.Logger // nil discards
}

const (
	defaultMemTable = 16 << 20
	valueThreshold  = 1 << 20 // Badger's greatest: every value stays in the LSM tree
)

// OpenBadger opens the directory, making it, readable by its owner only, if
// need be. It returns ErrLocked, ErrFull or ErrCorrupt, wrapped with details.
func OpenBadger(dir string, opt BadgerOptions) (Store, error) {
	if opt.MemTableSize == 0 {
		opt.MemTableSize = defaultMemTable
	}
	if opt.DiskReserve == 0 {
		opt.DiskReserve = 24*opt.MemTableSize + 64<<20
	}
	if opt.SegmentSize == 0 {
		opt.SegmentSize = segmentSize
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	data := filepath.Join(dir, "badger")
	if err := os.MkdirAll(data, 0o700); err != nil {
		return nil, err
	}
	s := &badgerStore{dir: dir, data: data, reserve: opt.DiskReserve, opened: time.Now(), looked: -lookEvery}
	manifest := filepath.Join(data, badger.ManifestFilename)
	if _, err := os.Stat(manifest); err == nil {
		s.manifest = manifest
	}
	if err := s.room(); err != nil {
		return nil, err
	}
	var err error
	if s.mark, s.marked, err = readMark(dir); err != nil {
		return nil, err
	}
	if err := verifyLocked(data); err != nil {
		return nil, err
	}
	o := badger.DefaultOptions(data).
		WithSyncWrites(true).
		WithMemTableSize(opt.MemTableSize).
		WithNumMemtables(3).
		WithNumCompactors(2).
		WithNumVersionsToKeep(1).
		WithDetectConflicts(false).
		WithMetricsEnabled(false).
		WithCompression(options.None).
		WithBlockCacheSize(0).
		WithChecksumVerificationMode(options.NoVerification). // see verify
		WithValueThreshold(min(valueThreshold, opt.MemTableSize*15/100)).
		WithValueLogFileSize(16 << 20).
		WithCompactL0OnClose(false).
		WithLogger(badgerLogger{opt.Logger})
	s.db, err = watched(func() (*badger.DB, error) { return openManaged(o) }, s.writable, openProbe)
	if err != nil {
		return nil, openError(err)
	}
	s.manifest = manifest
	if s.log, err = openLog(filepath.Join(dir, "log"), opt.SegmentSize); err != nil {
		return nil, errors.Join(err, s.giveUp())
	}
	s.ts.Store(s.db.MaxVersion())
	// Badger's own bounds are strict, and it adds an entry that ends the transaction.
	s.limits = Limits{
		Bytes: int(s.db.MaxBatchSize()) - 4096,
		Ops:   int(s.db.MaxBatchCount()) - 16,
		Value: int(min(valueThreshold, s.db.MaxBatchSize())) - 4096,
	}
	return s, nil
}

// openProbe is how often the disk is looked at while Badger opens.
const openProbe = 2 * time.Second

// watched opens a store, and gives it up when the disk dies meanwhile: Badger, which cannot write down what its
// logs held, tries again for ever. Its goroutines, and the lock of the directory, then stay until the process ends.
func watched(open func() (*badger.DB, error), alive func() error, every time.Duration) (*badger.DB, error) {
	type result struct {
		db  *badger.DB
		err error
	}
	done := make(chan result, 1)
	go func() {
		db, err := open()
		done <- result{db, err}
	}()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for sick := error(nil); ; {
		select {
		case r := <-done:
			return r.db, r.err
		case <-ticker.C:
		}
		if sick != nil { // it had until the next look to say so itself
			go func() {
				if r := <-done; r.err == nil {
					_ = r.db.Close()
				}
			}()
			return nil, fmt.Errorf("the disk died while Badger opened: %w", sick)
		}
		sick = alive()
	}
}

// giveUp closes Badger when the log cannot be opened, but waits for it no longer than for a disk that may be dying.
func (s *badgerStore) giveUp() error {
	done := make(chan error, 1)
	go func() { done <- s.closeBadger() }()
	timer := time.NewTimer(2 * openProbe)
	defer timer.Stop()
	select {
	case err := <-done:
		return err
	case <-timer.C:
		return errors.New("badger does not close")
	}
}

// openManaged turns the panics that damaged files cause into errors.
func openManaged(o badger.Options) (db *badger.DB, err error) {
	defer faults(&err)()
	return badger.OpenManaged(o)
}

// openError classifies an error of Badger's, which do not unwrap.
func openError(err error) error {
	text := err.Error()
	switch {
	case strings.Contains(text, "Cannot acquire directory lock"):
		return fmt.Errorf("%w: %w", ErrLocked, err)
	case strings.Contains(text, "permission denied"), strings.Contains(text, "read-only file system"), strings.Contains(text, "input/output error"):
		return err // nothing is known to be damaged
	case strings.Contains(text, "no space left"), strings.Contains(text, "too many open files"):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// faults returns what a deferred call does to make a panic, or a fault on a mapped file, an
// error of the function.
func faults(err *error) func() {
	old := debug.SetPanicOnFault(true)
	return func() {
		debug.SetPanicOnFault(old)
		if v := recover(); v != nil {
			*err = fmt.Errorf("badger panicked: %v", v)
		}
	}
}

// room returns ErrFull when the disk is below its reserve or descriptors are short, and
// another error when it cannot be written to at all.
func (s *badgerStore) room() error {
	if s.reserve >= 0 {
		free, err := freeSpace(s.dir)
		if err != nil {
			return fmt.Errorf("free space of %s: %w", s.dir, err)
		}
		if free < s.reserve {
			return fmt.Errorf("%w: %d bytes free, %d in reserve", ErrFull, free, s.reserve)
		}
	}
	return s.writable()
}

func (s *badgerStore) Limits() Limits { return s.limits }

func (s *badgerStore) Commit(ops []Op) (err error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if len(ops) == 0 {
		return nil
	}
	if err := s.limits.check(ops); err != nil {
		return err
	}
	if err := s.room(); err != nil {
		return err
	}
	defer faults(&err)()
	txn := s.db.NewTransactionAt(math.MaxUint64, true)
	defer txn.Discard()
	for _, op := range ops {
		if op.Value == nil {
			err = txn.Delete(op.Key)
		} else {
			err = txn.Set(op.Key, op.Value)
		}
		if err != nil {
			return err
		}
	}
	ts := s.ts.Add(1)
	if err := txn.CommitAt(ts, nil); err != nil {
		return err
	}
	// Everything older than what was just replaced may go at the next compaction.
	s.db.SetDiscardTs(ts - 1)
	return nil
}

func (s *badgerStore) Get(key, dst []byte) (value []byte, ok bool, err error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return dst, false, ErrClosed
	}
	defer faults(&err)()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return dst, false, nil
	}
	if err != nil {
		return dst, false, err
	}
	err = item.Value(func(v []byte) error {
		dst = append(dst, v...)
		return nil
	})
	return dst, err == nil, err
}

func (s *badgerStore) Scan(prefix, after []byte, keysOnly bool, fn func(k, v []byte) bool) (err error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return ErrClosed
	}
	defer faults(&err)()
	txn := s.db.NewTransactionAt(math.MaxUint64, false)
	defer txn.Discard()
	o := badger.DefaultIteratorOptions
	o.Prefix = prefix
	o.PrefetchValues = false
	it := txn.NewIterator(o)
	defer it.Close()
	after = bytes.Clone(after) // fn may use its memory for the next page's
	from := prefix
	if bytes.Compare(after, prefix) > 0 {
		from = after
	}
	for it.Seek(from); it.ValidForPrefix(prefix); it.Next() {
		item := it.Item()
		if after != nil && bytes.Compare(item.Key(), after) <= 0 {
			continue
		}
		if keysOnly {
			if !fn(item.Key(), nil) {
				return nil
			}
			continue
		}
		more := false
		if err := item.Value(func(v []byte) error {
			more = fn(item.Key(), v)
			return nil
		}); err != nil {
			return err
		}
		if !more {
			return nil
		}
	}
	return nil
}

func (s *badgerStore) Append(entries []Op) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return ErrClosed
	}
	if err := s.limits.check(entries); err != nil || len(entries) == 0 {
		return err
	}
	// The blocks of the log are there before they are needed, so this is for what else may have happened to the
	// directory, and for Badger's sake: it need not be each time.
	if now := time.Since(s.opened); now-s.looked >= lookEvery {
		if err := s.room(); err != nil {
			return err
		}
		s.looked = now
	}
	return s.log.append(entries)
}

// lookEvery is how old what is known of the disk may be when the log is appended to.
const lookEvery = 5 * time.Millisecond

func (s *badgerStore) Replay(after []byte, fn func(k, v []byte) bool) error {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return ErrClosed
	}
	return s.log.replay(after, fn)
}

func (s *badgerStore) Trim(before []byte) (n int, bytes int64, err error) {
	s.life.RLock()
	defer s.life.RUnlock()
	if s.closed {
		return 0, 0, ErrClosed
	}
	return s.log.trim(before)
}

func (s *badgerStore) Mark() (uint64, bool) { return s.mark, s.marked }

func (s *badgerStore) SetMark(n uint64) error { return writeMark(s.dir, n) }

func (s *badgerStore) Close() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.closed {
		return ErrClosed
	}
	s.closed = true
	return errors.Join(s.log.close(), s.closeBadger())
}

func (s *badgerStore) closeBadger() (err error) {
	defer faults(&err)()
	return s.db.Close()
}

// badgerLogger gives Badger's log lines to slog.
type badgerLogger struct{ l *slog.Logger }

func (b badgerLogger) Errorf(f string, a ...any)   { b.l.Error(line(f, a)) }
func (b badgerLogger) Warningf(f string, a ...any) { b.l.Warn(line(f, a)) }
func (b badgerLogger) Infof(f string, a ...any)    { b.l.Debug(line(f, a)) }
func (b badgerLogger) Debugf(string, ...any)       {}

func line(f string, a []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(f, a...))
}
