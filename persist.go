package sessile

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sessile-go/sessile/internal/seal"
	"github.com/sessile-go/sessile/internal/store"
)

// A persister moves commits to the store. Commits append deltas to the log
// buffers of their shards; the persister carries them on in three steps, each on
// a goroutine of its own:
//
//	write       cuts the buffers of all shards at one instant into a group, and
//	            appends the group to the log of the store
//	checkpoint  writes the records of changed sessions, raises the low-water mark
//	            of the log and deletes the groups at or below it
//	recover     at Open: folds the groups above the mark; what they change is the next checkpoint's to write
//
// # Groups
//
// A cut takes the latches of all shards, swaps their buffers and lets go. A commit
// appends under those same latches, all of them at once if it spans shards, so a group
// is a prefix of the history with whole commits in it (invariants 1 and 4).
// One group is written at a time and the next fills meanwhile: that is the group
// commit. A group is written at once when someone waits for it and no other is
// being written, when the buffers hold half of what one transaction can take,
// and FlushInterval after the first commit in it otherwise (invariant 3).
//
// Callers that commit one durable change after another come back a moment after they were woken. Cut
// at once, groups would hold one half of them and then the other, and each change wait for two
// writes. So the writer lets those it has woken run first, as long as they come (gather).
//
// # Failure
//
// A full disk is noticed before anything is written: the group stays in
// memory, is tried again every probeInterval, and meanwhile new changes are refused. Any other error
// of the store, and a write that stays out for stallLimit, is final (invariant 8):
// the buffers are sealed, everyone who waits is woken, and the store is not called again but to be closed.
type persister struct {
	e     *Engine
	store store.Store
	seal  *seal.Keyring
	names []byte   // the key under which user names are hashed; nil: not encrypted
	meta  store.Op // what Open writes of format and keys
	epoch uint64
	limit store.Limits

	// The group that is filling. Written under the latches of all shards, so that
	// any one of them suffices to read it.
	open *group

	armed    atomic.Bool   // the flush timer runs, or will
	armC     chan struct{} // asks the writer to start it
	nowC     chan struct{} // asks the writer to cut at once
	cutC     chan cutRequest
	openSize atomic.Int64 // bytes in the buffers, as reported

	logBytes   atomic.Int64  // the log above the low-water mark, buffers included
	dirtyBytes atomic.Int64  // memory of changed sessions, as reported
	checkC     chan struct{} // asks for a checkpoint

	number uint64                // of the last group written; the writer's
	clock  int64                 // its clock; the writer's
	spare  [][]byte              // buffers for the next cut; the writer's
	chunk  []byte                // memory of a groupWriter; the writer's
	sealed []byte                // the same
	alone  int                   // groups until gather is tried again; the writer's
	flying atomic.Pointer[group] // that is being written

	mu sync.Mutex
	// Guarded by mu.
	full    chan struct{} // closed while the disk is full
	isFull  bool
	failing atomic.Pointer[error] // the first cause, when fail has begun: what it seals with
	failure error                 // the same, when all is sealed
	failed  chan struct{}         // closed when failure is set

	stop    chan struct{} // ends the writer, after the final cut
	workers sync.WaitGroup

	stopCheck chan struct{} // ends the checkpointer, before the final checkpoint
	checker   sync.WaitGroup
	low       uint64 // number of the low-water mark; the checkpointer's
}

// Times of the persister.
const (
	probeInterval = 100 * time.Millisecond
	stallLimit    = 30 * time.Second
)

var errStalled = fmt.Errorf("a write has not returned for %v", stallLimit)

// A group is the commits between two cuts.
type group struct {
	done    chan struct{} // closed when all of it, and all before it, is on disk
	news    chan struct{} // closed when done is, or the store has failed, or the disk is full
	told    atomic.Bool   // news is closed
	waiters atomic.Int32  // callers that have waited for it
	started atomic.Int64  // engine time of its first commit, about; 0: empty
}

func newGroup() *group {
	return &group{done: make(chan struct{}), news: make(chan struct{})}
}

// tell wakes those who wait for the group.
func (g *group) tell() {
	if !g.told.Swap(true) {
		close(g.news)
	}
}

// A cutRequest asks the writer for a cut.
type cutRequest struct {
	clock   int64 // a group is written, even an empty one, unless the log's clock is as late as this
	changed bool  // take the lists of changed sessions, too
	seal    error // nothing may be appended after it
	reply   chan cutResult
}

type cutResult struct {
	group   *group
	number  uint64 // the newest group whose commits are all before the cut
	changed [][]*session
	live    groupCounts
}

// groupCounts is what each group, and the low-water mark, says of the engine at its cut.
type groupCounts struct {
	clock     int64
	sessions  int64
	anonymous int64
}

func (e *Engine) groupCounts() groupCounts {
	return groupCounts{e.clock.now(), e.live.sessions.Load(), e.live.anonymous.Load()}
}

// arm makes sure that what is now first in its buffer will be flushed in time.
func (p *persister) arm() {
	if p.armed.Load() || p.armed.Swap(true) {
		return
	}
	p.open.started.Store(p.e.clock.now())
	notify(p.armC)
}

// notify sends to a channel of capacity one without blocking.
func notify(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// grew is told of log bytes in steps.
func (p *persister) grew(n int64) {
	p.logBytes.Add(n)
	if p.openSize.Add(n) > int64(p.limit.Bytes)/2 {
		notify(p.nowC)
	}
	p.pressure()
}

// dirtied is told of the memory of changed sessions in steps.
func (p *persister) dirtied(n int64) {
	p.dirtyBytes.Add(n)
	p.pressure()
}

// dirtyCap is how much memory changed sessions may take: they cannot be evicted.
func (p *persister) dirtyCap() int64 { return p.e.opt.MaxMemory / 4 * 3 }

// pressure asks for a checkpoint at half of a bound and closes the gate at the whole.
func (p *persister) pressure() {
	log, dirty := p.logBytes.Load(), p.dirtyBytes.Load()
	if log > p.e.opt.MaxLogBytes/2 || dirty > p.e.opt.MaxMemory/2 {
		notify(p.checkC)
	}
	if log >= p.e.opt.MaxLogBytes || dirty >= p.dirtyCap() {
		p.e.room.shut(p.e, gateFull)
	}
}

// relieve opens the gate again when there is room.
func (p *persister) relieve() {
	if p.logBytes.Load() < p.e.opt.MaxLogBytes && p.dirtyBytes.Load() < p.dirtyCap() {
		p.e.room.clear(p.e, gateFull)
	}
}

// await returns when the group is on disk.
func (p *persister) await(ctx context.Context, g *group) error {
	select {
	case <-g.done:
		return nil
	default:
	}
	g.waiters.Add(1)
	notify(p.nowC)
	// Waiting for one channel costs half of what a select of all does.
	if ctx.Done() == nil {
		<-g.news
	} else {
		select {
		case <-g.news:
		case <-ctx.Done():
		}
	}
	select {
	case <-g.done:
		return nil
	default:
	}
	p.mu.Lock()
	full := p.full
	p.mu.Unlock()
	var err error
	select {
	case <-g.done:
		return nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-full:
		err = ErrDiskFull
	case <-p.failed:
		err = p.cause()
	}
	select {
	case <-g.done:
		return nil
	default:
		return durabilityUnknown(err)
	}
}

// tellWaiters wakes all who wait for a group, when it may not come to disk.
func (p *persister) tellWaiters() {
	sh := p.e.shards[0]
	sh.mu.Lock()
	open := p.open
	sh.mu.Unlock()
	open.tell()
	if g := p.flying.Load(); g != nil {
		g.tell()
	}
}

// troubled reports whether the store has failed or the disk is full.
func (p *persister) troubled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure != nil || p.isFull
}

// cause returns why the store failed.
func (p *persister) cause() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failure
}

// sealedError is the error of an end that no log took.
func (p *persister) sealedError() error {
	if err := p.failing.Load(); err != nil {
		return durabilityUnknown(*err)
	}
	return durabilityUnknown(ErrClosed)
}

// fail makes a failure of the store final.
func (p *persister) fail(cause error) {
	err := fmt.Errorf("%w: %w", ErrPersistence, cause)
	if !p.failing.CompareAndSwap(nil, &err) {
		<-p.failed
		return
	}
	p.e.gate.Or(gateFailed)
	for _, sh := range p.e.shards {
		sh.mu.Lock()
		if sh.sealed == nil {
			sh.sealed = err
		}
		sh.mu.Unlock()
	}
	// Told last. A caller that has met a sealed shard has heard of it already; what begins from then on waits at the
	// gate until all are (admitSlow), so none of it is committed.
	p.mu.Lock()
	p.failure = err
	close(p.failed)
	p.mu.Unlock()
	p.tellWaiters()
	p.e.count.persistErrors.Add(1)
	p.e.room.wakeAll(p.e)
	p.e.opt.Logger.Error("sessile: the store failed; sessions in memory can be read, nothing can be written", "error", cause)
}

// setFull notes whether the disk has no room. The gate is shut before anybody
// hears of it: nothing that begins afterwards is let in.
func (p *persister) setFull(full bool, cause error) {
	p.mu.Lock()
	was := p.isFull
	p.isFull = full
	switch {
	case full && !was:
		p.e.room.shut(p.e, gateDisk)
		close(p.full)
	case !full && was:
		p.full = make(chan struct{})
		p.e.room.clear(p.e, gateDisk)
	}
	p.mu.Unlock()
	switch {
	case full && !was:
		p.tellWaiters()
		p.e.count.persistErrors.Add(1)
		p.e.opt.Logger.Error("sessile: disk full; changes are refused until there is room", "error", cause)
	case !full && was:
		p.e.opt.Logger.Info("sessile: the disk has room again")
	}
}

// writeLoop is the writer.
func (p *persister) writeLoop() {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	for {
		var req cutRequest
		select {
		case <-p.armC:
			timer.Reset(p.e.opt.FlushInterval)
			continue
		case <-timer.C:
		case <-p.nowC:
		case req = <-p.cutC:
		case <-p.stop:
			return
		}
		if p.cause() != nil {
			if req.reply != nil {
				close(req.reply)
			}
			continue
		}
		bufs, res := p.cut(req)
		g := res.group
		p.flying.Store(g)
		if p.troubled() { // who made it so may have missed a group in the middle of the cut
			p.tellWaiters()
		}
		started := time.Now()
		ok := p.writeGroup(bufs, res.live, req.clock)
		p.flying.Store(nil)
		if ok {
			close(g.done)
		}
		g.tell()
		if req.reply != nil {
			if ok {
				res.number = p.number
				req.reply <- res
			} else {
				close(req.reply)
			}
		}
		p.gather(g.waiters.Load(), time.Since(started))
	}
}

// gather lets the callers that were woken run and join the next group. It ends when all have, when none came
// in one turn of the scheduler, and at the latest when it has taken as long as the write of the
// group did, or FlushInterval is over: from there on waiting costs more than it saves. Where it does not bring
// half of them, it is not tried for a while.
func (p *persister) gather(woken int32, most time.Duration) {
	if p.alone > 0 {
		p.alone--
		return
	}
	before := p.open.waiters.Load()
	start, have := time.Now(), before
	for have < before+woken && time.Since(start) < most {
		if at := p.open.started.Load(); at != 0 && p.e.clock.now()-at >= p.e.opt.FlushInterval.Milliseconds() {
			break
		}
		runtime.Gosched()
		now := p.open.waiters.Load()
		if now == have {
			break
		}
		have = now
	}
	if have-before < woken/2 {
		p.alone = gatherPause
	}
}

// gatherPause is how many groups are cut without waiting after a gather that did not pay.
const gatherPause = 16

// cut ends the open group at one instant.
func (p *persister) cut(req cutRequest) (bufs [][]byte, res cutResult) {
	shards := p.e.shards
	if p.spare == nil {
		p.spare = make([][]byte, len(shards))
	}
	next := newGroup()
	bufs, p.spare = p.spare, nil
	if req.changed {
		res.changed = make([][]*session, len(shards))
	}
	for _, sh := range shards {
		sh.mu.Lock()
	}
	res.group = p.open
	p.open = next
	p.armed.Store(false)
	uncounted := int64(0)
	for i, sh := range shards {
		bufs[i], sh.log = sh.log, bufs[i][:0]
		uncounted += int64(len(bufs[i]) - sh.counted)
		sh.counted = 0
		sh.cut = sh.version
		if req.changed {
			res.changed[i], sh.changed = sh.changed, nil
		}
		if req.seal != nil && sh.sealed == nil {
			sh.sealed = req.seal
		}
	}
	res.live = p.e.groupCounts()
	p.openSize.Store(0)
	for _, sh := range shards {
		sh.mu.Unlock()
	}
	p.logBytes.Add(uncounted)
	return bufs, res
}

// The log on disk. A group's deltas are packed into chunks, each an entry of the store's log under
// the key 'l' | epoch | number | part. Before the deltas a chunk says:
//
//	format 1 | parts 4 (0 but in the last chunk) | clock 8 | sessions 8 | anonymous 8
//
// A group too large for one batch of the store goes in several; only the last chunk
// says of how many parts the group is, and without it none counts.
const (
	chunkFormat = 1
	chunkHeader = 1 + 4 + 8 + 8 + 8
	chunkMax    = 900 << 10 // bytes of deltas that are gathered before a chunk is closed; one delta may exceed it
	chunkKeyLen = 1 + 8 + 8 + 4
)

func chunkKey(epoch, number uint64, part uint32) []byte {
	k := append(make([]byte, 0, chunkKeyLen), 'l')
	k = binary.BigEndian.AppendUint64(k, epoch)
	k = binary.BigEndian.AppendUint64(k, number)
	return binary.BigEndian.AppendUint32(k, part)
}

// spareMax is the largest buffer that is kept for the next group.
const spareMax = 1 << 20

// writeGroup writes the buffers as the next group and reports whether they are on
// disk. It gives the buffers back for the next cut.
func (p *persister) writeGroup(bufs [][]byte, live groupCounts, clock int64) bool {
	defer func() {
		for i, b := range bufs {
			if cap(b) > spareMax {
				bufs[i] = nil
			}
		}
		p.spare = bufs
		if cap(p.chunk) > spareMax || cap(p.sealed) > spareMax {
			p.chunk, p.sealed = nil, nil
		}
	}()
	size := 0
	for _, b := range bufs {
		size += len(b)
	}
	if size == 0 && clock <= p.clock {
		return true
	}
	started := time.Now()
	number := p.number + 1
	w := groupWriter{p: p, number: number, live: live}
	w.reset()
	for _, b := range bufs {
		for len(b) > 0 {
			have := len(w.chunk) - chunkHeader
			n := chunkPrefix(b, chunkMax-have)
			if n == 0 || have >= chunkMax {
				if !w.closeChunk(false) {
					return false
				}
				continue
			}
			w.chunk = append(w.chunk, b[:n]...)
			b = b[n:]
		}
	}
	if !w.closeChunk(true) || !w.append() {
		return false
	}
	p.number, p.clock = number, live.clock
	took := time.Since(started)
	c := &p.e.count
	c.groups.Add(1)
	c.groupBytes.Add(uint64(size))
	c.lastGroup.Store(int64(size))
	c.groupTime.Add(int64(took))
	c.lastGroupTime.Store(int64(took))
	return true
}

// chunkPrefix returns the length of the whole deltas at the start of b that fit
// into room, at least one if room is that of an empty chunk.
func chunkPrefix(b []byte, room int) int {
	if len(b) <= room {
		return len(b)
	}
	n := 0
	for n < len(b) {
		d := int(binary.LittleEndian.Uint32(b[n:]))
		if n+d > room && (n > 0 || room < chunkMax) {
			break
		}
		n += d
	}
	return n
}

// A groupWriter packs one group into chunks and batches.
type groupWriter struct {
	p      *persister
	number uint64
	live   groupCounts
	part   uint32
	chunk  []byte // that is filling, with room for its header
	ops    []store.Op
	size   int
}

// reset begins a chunk.
func (w *groupWriter) reset() {
	w.chunk = append(w.p.chunk[:0], make([]byte, chunkHeader)...)
}

func (w *groupWriter) closeChunk(last bool) bool {
	p := w.p
	parts := uint32(0)
	if last {
		parts = w.part + 1
	}
	head := append(w.chunk[:0], chunkFormat)
	head = binary.LittleEndian.AppendUint32(head, parts)
	head = binary.LittleEndian.AppendUint64(head, uint64(w.live.clock))
	head = binary.LittleEndian.AppendUint64(head, uint64(w.live.sessions))
	binary.LittleEndian.AppendUint64(head, uint64(w.live.anonymous))
	key := chunkKey(p.epoch, w.number, w.part)
	var dst []byte
	if w.part == 0 { // most groups have but one
		dst = p.sealed[:0]
	}
	op := store.Op{Key: key, Value: p.seal.Seal(dst, w.chunk, key)}
	if w.part == 0 {
		p.sealed = op.Value
	}
	p.chunk = w.chunk
	if len(w.ops) > 0 && (w.size+op.Size() > p.limit.Bytes || len(w.ops) == p.limit.Ops) && !w.append() {
		return false
	}
	w.ops = append(w.ops, op)
	w.size += op.Size()
	w.part++
	w.reset()
	return true
}

func (w *groupWriter) append() bool {
	ok := w.p.write(func() error { return w.p.store.Append(w.ops) })
	w.ops, w.size = w.ops[:0], 0
	return ok
}

// commit writes one transaction.
func (p *persister) commit(ops []store.Op) bool {
	return p.write(func() error { return p.store.Commit(ops) })
}

// write lets the store write, waiting out a full disk. It reports false when
// the store has failed, or when the engine is given up with a full disk.
func (p *persister) write(to func() error) bool {
	for {
		if p.cause() != nil {
			return false
		}
		stalled := time.AfterFunc(stallLimit, func() { p.fail(errStalled) })
		err := to()
		stalled.Stop()
		switch {
		case err == nil:
			p.setFull(false, nil)
			return p.cause() == nil
		case errors.Is(err, store.ErrFull):
			p.setFull(true, err)
		default:
			p.fail(err)
			return false
		}
		timer := time.NewTimer(probeInterval)
		select {
		case <-timer.C:
		case <-p.failed:
		case <-p.stop:
			timer.Stop()
			return false
		}
		timer.Stop()
	}
}

// requestCut asks the writer for a cut and returns when its group is on disk.
func (p *persister) requestCut(req cutRequest) (cutResult, bool) {
	req.reply = make(chan cutResult, 1)
	select {
	case p.cutC <- req:
	case <-p.failed:
		return cutResult{}, false
	case <-p.stop:
		return cutResult{}, false
	}
	select {
	case res, ok := <-req.reply:
		return res, ok
	case <-p.failed:
		return cutResult{}, false
	case <-p.stop:
		return cutResult{}, false
	}
}
