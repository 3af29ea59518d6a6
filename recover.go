package sessile

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/sessile-go/sessile/internal/seal"
	"github.com/sessile-go/sessile/internal/store"
)

// bootState is what Open learns from the store for the engine to begin with.
type bootState struct {
	epoch     uint64
	clock     int64
	sessions  int64
	anonymous int64
	log       int64     // bytes of the log that stay in the store
	changed   []*folded // the sessions that the log has newer states of than the records
}

// openStore opens the store of the directory and translates its errors.
func openStore(opt Options) (store.Store, error) {
	dir, err := filepath.Abs(opt.Dir)
	if err != nil {
		return nil, fmt.Errorf("sessile: Options.Dir: %w", err)
	}
	st, err := store.OpenBadger(dir, store.BadgerOptions{DiskReserve: opt.DiskReserve, Logger: opt.Logger})
	switch {
	case err == nil:
		return st, nil
	case errors.Is(err, store.ErrLocked):
		return nil, fmt.Errorf("%w: %s", ErrDirLocked, dir)
	}
	return nil, fmt.Errorf("sessile: open %s: %w", dir, storeError(err))
}

// newPersister reads what the store says of itself, raises the epoch durably
// before anything else, and folds the log.
func newPersister(opt Options, st store.Store) (*persister, bootState, error) {
	keyring, err := seal.New(opt.EncryptionKeys)
	if err != nil {
		return nil, bootState{}, fmt.Errorf("sessile: Options.EncryptionKeys: %w", err)
	}
	p := &persister{
		store:  st,
		seal:   keyring,
		limit:  st.Limits(),
		open:   newGroup(),
		armC:   make(chan struct{}, 1),
		nowC:   make(chan struct{}, 1),
		cutC:   make(chan cutRequest),
		checkC: make(chan struct{}, 1),
		full:   make(chan struct{}),
		failed: make(chan struct{}),
		stop:   make(chan struct{}),

		stopCheck: make(chan struct{}),
	}
	boot, err := p.boot()
	if err != nil {
		return nil, boot, err
	}
	r := recovery{p: p, opt: &opt, boot: &boot, window: opt.MaxMemory / 4}
	if err := r.run(); err != nil {
		return nil, boot, fmt.Errorf("sessile: recovery: %w", storeError(err))
	}
	return p, boot, nil
}

// start starts the persister, whose engine is set.
func (p *persister) start() {
	p.workers.Go(p.writeLoop)
	p.checker.Go(p.checkpointLoop)
}

// storeError gives an error of the store during Open its public name.
func storeError(err error) error {
	switch {
	case errors.Is(err, store.ErrFull):
		return fmt.Errorf("%w: %w", ErrDiskFull, err)
	case errors.Is(err, store.ErrCorrupt):
		return fmt.Errorf("%w: %w", ErrCorrupt, err)
	case errors.Is(err, ErrCorrupt), errors.Is(err, ErrUnsupported):
		return err
	}
	return fmt.Errorf("%w: %w", ErrPersistence, err)
}

// The meta value: format 2 | encrypted 1 | envelope of the 32-byte index key.
const metaFormat = 2

// boot reads format, keys and epoch, and raises the epoch.
func (p *persister) boot() (b bootState, err error) {
	meta, found, err := p.store.Get(metaKey, nil)
	if err != nil {
		return b, fmt.Errorf("sessile: %w", storeError(err))
	}
	encrypted := byte(0)
	if p.seal.Encrypted() {
		encrypted = 1
	}
	var names []byte
	switch {
	case !found:
		names = make([]byte, 32)
		rand.Read(names)
	case len(meta) < 2 || meta[0] != metaFormat:
		return b, fmt.Errorf("%w: directory format %x", ErrUnsupported, meta[:min(1, len(meta))])
	case meta[1] != encrypted:
		return b, fmt.Errorf("%w: the directory is encrypted or Options.EncryptionKeys is set, but not both", ErrUnsupported)
	default:
		if names, err = p.seal.Open(nil, meta[2:], metaKey); err != nil {
			return b, fmt.Errorf("directory key: %w", sealError(err))
		}
	}
	if encrypted == 1 {
		p.names = names
	}
	epoch, found, err := p.store.Get(epochKey, nil)
	if err != nil {
		return b, fmt.Errorf("sessile: %w", storeError(err))
	}
	if found {
		if len(epoch) != 8 {
			return b, fmt.Errorf("%w: epoch of %d bytes", ErrCorrupt, len(epoch))
		}
		b.epoch = binary.LittleEndian.Uint64(epoch)
	}
	p.meta = store.Op{Key: metaKey, Value: p.seal.Seal([]byte{metaFormat, encrypted}, names, metaKey)}
	err = p.raiseEpoch(&b, b.epoch)
	return b, err
}

// raiseEpoch makes the epoch the one after last, durably. The index key goes under the first of the keys each time, so that older ones
// can be given up.
func (p *persister) raiseEpoch(b *bootState, last uint64) error {
	if last >= 1<<(64-versionEpochShift)-1 {
		return fmt.Errorf("%w: the directory was opened too often", ErrUnsupported)
	}
	b.epoch = last + 1
	p.epoch = b.epoch
	if err := p.store.Commit([]store.Op{{Key: epochKey, Value: binary.LittleEndian.AppendUint64(nil, b.epoch)}, p.meta}); err != nil {
		return fmt.Errorf("sessile: %w", storeError(err))
	}
	return nil
}

// A recovery folds the log above the low-water mark. Fold is
// unconditional redo in order: creations replace, deltas of absent sessions are
// skipped, ends delete, last-seen goes by the greater. Because fields carry absolute
// values, a crash inside a recovery changes nothing: the next one redoes it.
//
// What it folds becomes the engine's as sessions changed since the last checkpoint, as they were before the crash; the
// log stays, and the next checkpoint writes their records (adopt). Only what exceeds the window is written
// to its records here; and all of it, with the log deleted, where the log does not stay.
type recovery struct {
	p    *persister
	opt  *Options
	boot *bootState

	low    uint64
	mark   groupCounts        // those of the low-water mark
	last   uint64             // the newest whole group
	first  []byte             // the key of the first chunk above the mark
	torn   atomic.Bool        // something of the log does not count, is missing, or is under an older key
	window int64              // how much state is folded in memory before it is written; as much again may be being written
	states map[string]*folded // what is folded
	folded []*folded          // the same, in the order of the log
	size   int64
	bytes  int64 // of the log, as persister.logBytes counts them

	writing map[string]*folded // the window before it, while it is written; read only
	wrote   chan error         // when it is; nil: nothing is written
	indexed bool               // there are index entries on disk; the writer's
}

// folded is one session on its way through the log.
type folded struct {
	id       string
	r        *record // nil: absent
	seen     int64
	disk     string // the user that the record on disk has in the index
	wasThere bool
	unread   bool // created: disk and wasThere are not known yet
}

func (r *recovery) run() error {
	p := r.p
	v, found, err := p.store.Get(lowKey, nil)
	if err != nil {
		return err
	}
	if found {
		plain, err := p.seal.Open(nil, v, lowKey)
		if err != nil {
			return fmt.Errorf("low-water mark: %w", sealError(err))
		}
		if len(plain) != 32 {
			return fmt.Errorf("%w: low-water mark of %d bytes", ErrCorrupt, len(plain))
		}
		r.low = binary.LittleEndian.Uint64(plain)
		r.boot.clock = int64(binary.LittleEndian.Uint64(plain[8:]))
		r.boot.sessions = int64(binary.LittleEndian.Uint64(plain[16:]))
		r.boot.anonymous = int64(binary.LittleEndian.Uint64(plain[24:]))
		r.mark = groupCounts{r.boot.clock, r.boot.sessions, r.boot.anonymous}
	}
	r.last = r.low
	r.states = make(map[string]*folded)
	err = p.store.Scan([]byte{'u'}, nil, true, func(_, _ []byte) bool {
		r.indexed = true
		return false
	})
	if err != nil {
		return err
	}
	err = r.redo()
	if err == nil {
		err = r.trim()
	}
	if failed := r.settle(); failed != nil {
		return failed // of what came earlier in the log
	}
	if err != nil {
		return err
	}
	p.number, p.low = r.last, r.low
	stays, err := r.stays()
	if err != nil {
		return err
	}
	if !stays {
		if err := errors.Join(r.flush(), r.settle()); err != nil {
			return err
		}
		return r.finish()
	}
	r.boot.log, r.boot.changed = r.bytes, r.folded
	// When encrypted, the mark too goes under the first key each time.
	if found && p.seal.Encrypted() {
		return p.store.Commit([]store.Op{{Key: lowKey, Value: p.encodeLow(r.low, r.mark)}})
	}
	return nil
}

// trim deletes what is not above the mark, and was not yet when the last life ended.
func (r *recovery) trim() error {
	before := r.first
	if before == nil {
		before = chunkKey(r.p.epoch, 0, 0)
	}
	_, _, err := r.p.store.Trim(before)
	return err
}

// redo folds the log.
func (r *recovery) redo() error {
	if err := r.groups(); err != nil {
		return err
	}
	if mark, ok := r.p.store.Mark(); ok && mark > r.last {
		err := fmt.Errorf("%w: the log ends at group %d, but was closed at group %d", ErrCorrupt, r.last, mark)
		if !r.opt.AcceptDataLoss {
			return err
		}
		r.opt.Logger.Warn("sessile: data loss accepted", "error", err)
		r.last = mark // numbers are not used twice
		r.torn.Store(true)
	}
	return nil
}

// stays reports whether the log stays, and the engine takes what is folded. It does not where something of it must not meet
// the groups of this epoch, and where the options leave too little room for
// what comes: beyond half of MaxLogBytes a checkpoint begins at once, and changes go on meanwhile.
func (r *recovery) stays() (bool, error) {
	for _, f := range r.folded {
		if err := r.know(f); err != nil {
			return false, err
		}
	}
	return !r.torn.Load() && r.bytes <= r.opt.MaxLogBytes/4*3, nil
}

// groups reads the log in order and folds each whole group.
func (r *recovery) groups() error {
	var (
		after   []byte
		group   [][]byte // chunks of the group that is being read
		number  uint64
		epoch   uint64
		started = time.Now()
		told    = started
		bytesIn int64
		problem error // in the group being read; an error only if another group follows
	)
	for {
		var page []store.Op
		size := 0
		err := r.p.store.Replay(after, func(k, v []byte) bool {
			page = append(page, store.Op{Key: slices.Clone(k), Value: bytes.Clone(v)})
			size += len(v)
			return size < 4<<20
		})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		for _, op := range page {
			after = op.Key
			if len(op.Key) != chunkKeyLen {
				return fmt.Errorf("%w: log key of %d bytes", ErrCorrupt, len(op.Key))
			}
			e, n := binary.BigEndian.Uint64(op.Key[1:]), binary.BigEndian.Uint64(op.Key[9:])
			part := binary.BigEndian.Uint32(op.Key[17:])
			if e >= r.p.epoch {
				if err := r.unknownOpening(e); err != nil {
					return err
				}
			}
			if n <= r.low {
				continue // not yet collected
			}
			if r.first == nil {
				r.first = op.Key
			}
			r.bytes += max(int64(len(op.Value))-r.p.chunkOverhead(), 0)
			if n != number || e != epoch {
				// A group begins. The one before must have been whole.
				if problem == nil && len(group) > 0 {
					problem = fmt.Errorf("%w: group %d is incomplete", ErrCorrupt, number)
				}
				if problem == nil && n != r.last+1 {
					problem = fmt.Errorf("%w: group %d is missing", ErrCorrupt, r.last+1)
				}
				if problem != nil {
					return r.damaged(problem)
				}
				number, epoch, group = n, e, nil
			} else if problem != nil {
				continue
			}
			if int(part) != len(group) {
				problem = fmt.Errorf("%w: group %d: part %d is missing", ErrCorrupt, n, len(group))
				continue
			}
			plain, err := r.p.seal.Open(nil, op.Value, op.Key)
			if err == nil && (len(plain) < chunkHeader || plain[0] != chunkFormat) {
				err = seal.ErrDamaged
			}
			if err != nil {
				// Damage, and not a group cut short: those bytes were on disk.
				return r.damaged(fmt.Errorf("group %d: %w", n, sealError(err)))
			}
			if !r.p.seal.First(op.Value) {
				r.torn.Store(true)
			}
			bytesIn += int64(len(plain))
			group = append(group, plain)
			if parts := binary.LittleEndian.Uint32(plain[1:]); parts != 0 {
				if int(parts) != len(group) {
					problem = fmt.Errorf("%w: group %d has %d of %d parts", ErrCorrupt, n, len(group), parts)
					continue
				}
				if err := r.fold(group); err != nil {
					return r.damaged(fmt.Errorf("group %d: %w", n, err))
				}
				r.last, group = n, nil
				if r.size > r.window {
					if err := r.flush(); err != nil {
						return err
					}
				}
			}
		}
		if now := time.Now(); now.Sub(told) > time.Second {
			told = now
			r.opt.Logger.Info("sessile: recovering", "groups", r.last-r.low, "bytes", bytesIn, "elapsed", now.Sub(started))
		}
	}
	if problem != nil || len(group) > 0 {
		r.torn.Store(true) // the last group was cut short
	}
	if d := time.Since(started); d > time.Second {
		r.opt.Logger.Info("sessile: recovered", "groups", r.last-r.low, "bytes", bytesIn, "elapsed", d)
	}
	return nil
}

// unknownOpening meets a log that is of a later opening than the store knows of: the store has lost what was written to it
// last. Where the owner accepts that, openings are counted on from there, so that nothing is numbered twice.
func (r *recovery) unknownOpening(epoch uint64) error {
	err := fmt.Errorf("%w: the log is of opening %d, the records of %d", ErrCorrupt, epoch, r.p.epoch-1)
	if !r.opt.AcceptDataLoss {
		return err
	}
	r.opt.Logger.Warn("sessile: data loss accepted", "error", err)
	return r.p.raiseEpoch(r.boot, epoch)
}

// damaged ends the log before the damage if the owner accepted that.
func (r *recovery) damaged(err error) error {
	if !r.opt.AcceptDataLoss {
		return err
	}
	r.torn.Store(true)
	r.opt.Logger.Warn("sessile: data loss accepted", "error", err)
	return nil
}

// fold redoes one whole group. Nothing of it is kept if it cannot be decoded.
func (r *recovery) fold(group [][]byte) error {
	var deltas []delta
	for _, chunk := range group {
		for b := chunk[chunkHeader:]; len(b) > 0; {
			d, rest, err := decodeDelta(b)
			if err != nil {
				return err
			}
			for f := range fieldsOf(d.body) {
				if f.err != nil {
					return f.err
				}
			}
			deltas = append(deltas, d)
			b = rest
		}
	}
	var changes []change
	for _, d := range deltas {
		f, err := r.state(d.id, d.kind == deltaCreate)
		if err != nil {
			return err
		}
		switch d.kind {
		case deltaEnd:
			r.size -= int64(f.r.size())
			f.r = nil
			continue
		case deltaTouch:
			f.seen = max(f.seen, d.seen)
			continue
		}
		base := f.r
		if d.kind == deltaCreate {
			base = nil
		} else if base == nil {
			continue
		}
		if changes, err = d.changesOf(base, changes[:0]); err != nil {
			return err
		}
		r.size -= int64(f.r.size())
		if base != nil && fits(changes) {
			base.overwrite(changes)
		} else {
			f.r = merge(base, changes)
			if base == nil {
				f.r.created = d.seen
				f.seen = d.seen
			}
		}
		f.r.version = d.version
		f.seen = max(f.seen, d.seen)
		r.size += int64(f.r.size())
	}
	last := group[len(group)-1]
	r.boot.clock = max(r.boot.clock, int64(binary.LittleEndian.Uint64(last[5:])))
	r.boot.sessions = int64(binary.LittleEndian.Uint64(last[13:]))
	r.boot.anonymous = int64(binary.LittleEndian.Uint64(last[21:]))
	return nil
}

// state returns a session as folded so far, from its record at first. A creation needs no more than to
// replace that.
func (r *recovery) state(id string, created bool) (*folded, error) {
	if f := r.states[id]; f != nil {
		return f, nil
	}
	f := &folded{id: id}
	if w := r.writing[id]; w != nil {
		f.seen = w.seen
		if w.r != nil {
			f.r, f.wasThere = w.r.clone(0), true
			f.disk, _ = f.r.user()
		}
		return r.add(f), nil
	}
	if created {
		f.unread = true
		return r.add(f), nil
	}
	rec, seen, err := r.read(id)
	if err != nil {
		return nil, err
	}
	if rec != nil {
		f.r, f.seen, f.wasThere = rec, seen, true
		f.disk, _ = rec.user()
	}
	return r.add(f), nil
}

// read returns the record on disk; nil if there is none, or a damaged one and the owner accepted that.
func (r *recovery) read(id string) (*record, int64, error) {
	key := recordKey(id)
	v, ok, err := r.p.store.Get(key, nil)
	if err != nil || !ok {
		return nil, 0, err
	}
	rec, seen, err := r.p.openRecord(key, v)
	if err != nil && r.opt.AcceptDataLoss {
		r.torn.Store(true) // for good
		return nil, 0, nil
	}
	return rec, seen, err
}

func (r *recovery) add(f *folded) *folded {
	r.states[f.id] = f
	r.folded = append(r.folded, f)
	r.size += int64(f.r.size()) + sessionOverhead
	return f
}

// flush begins to write the folded states to their records, and forgets them. The states before are
// on disk when it returns: no two batches in flight write the same key.
func (r *recovery) flush() error {
	if err := r.settle(); err != nil {
		return err
	}
	wrote, states := make(chan error, 1), r.folded
	go func() { wrote <- r.write(states) }()
	r.wrote, r.writing = wrote, r.states
	r.states, r.folded, r.size = make(map[string]*folded), nil, 0
	return nil
}

// settle waits until nothing is being written.
func (r *recovery) settle() error {
	if r.wrote == nil {
		return nil
	}
	err := <-r.wrote
	r.wrote, r.writing = nil, nil
	return err
}

// finish raises the low-water mark to the end of the log and deletes all of it,
// so that no remains of a group cut short meet the groups of this epoch.
func (r *recovery) finish() error {
	p := r.p
	live := groupCounts{r.boot.clock, r.boot.sessions, r.boot.anonymous}
	if err := p.store.Commit([]store.Op{{Key: lowKey, Value: p.encodeLow(r.last, live)}}); err != nil {
		return err
	}
	p.low = r.last
	_, _, err := p.store.Trim(chunkKey(p.epoch, 0, 0))
	return err
}
