package sessile

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
	"weak"
)

// A Txn is one session inside a callback: its state at the moment the callback
// began, with what the callback has staged on top. Nothing staged is visible to
// anyone else, or applied at all, before the callback has returned nil.
//
// A Txn is a small value. It is good until its callback returns; used later,
// also through a copy, its methods answer ErrTxnDone (those without an error: as
// for an empty session) and reach nothing. It must not be used from another
// goroutine while the callback runs.
type Txn struct {
	state *txnState
	gen   uint64
}

// A txnState is what a Txn points to. States are used again and again; gen tells
// the uses apart. It is odd while a callback runs, and goes up by one
// at each begin and end, so a handle of an earlier use never matches. It is
// also the engine's register of what runs now: the watchdog that looks for slow callbacks, Shutdown's
// drain and the counts of Stats read it, which costs transactions nothing.
type txnState struct {
	// Written by the holder, read by all.
	gen   relaxedUint64
	s     relaxedPointer[session]
	place relaxedUint64 // code of the callback, for the log of slow ones

	e *Engine

	// The holder's alone.
	sh      *shard
	base    *record // the state at the begin; nil: absent
	ctx     context.Context
	seen    int64
	mode    txnMode
	now     int64 // the clock when the session was last seen to be alive; 0: look again
	locked  bool  // the session lock is to be released at the end
	durable bool
	destroy bool
	noTouch bool
	tally   *tally   // nil: a processor's own
	inPlace bool     // every change staged so far overwrites a value of its size
	next    *record  // the state to install, where the changes do not fit in place
	block   *session // the object that next was made with, to which the session may move; nil: next is own
	own     *record  // memory for a state: what a View sees of a session that is often changed, or next
	staged  []change
	arena   []byte // the bytes of staged values; only appended to, so borrowed values stay

	slowSeen uint64 // gen at the watchdog's last look; the watchdog's
	slowFor  int    // looks since

	_ [8]byte
}

type txnMode uint8

const (
	modeView   txnMode = iota
	modeUpdate         // the session must exist
	modeUpsert         // it is created if it does not
	modeCreate         // it must not exist
)

// txnStates are the states of one kind of transaction. Each processor has one of its own; those
// that begin while it is in use, because its transaction waits for something, come from a
// sync.Pool. What the pool lets go to the garbage collector leaves the register.
type txnStates struct {
	e    *Engine
	proc procStates
	free sync.Pool

	mu sync.Mutex
	// Guarded by mu.
	pooled map[*tally]struct{} // of the states of the pool
	gone   uint64              // transactions of those that are no more
}

// A tally is what the register keeps of a pooled state, and outlives it until its transactions are
// counted as gone.
type tally struct {
	gen   atomic.Uint64 // the state's
	state weak.Pointer[txnState]
	pool  *sync.Pool
}

func (p *txnStates) init(e *Engine) {
	p.e = e
	p.proc = newProcStates(e)
	p.pooled = make(map[*tally]struct{})
}

// takePooled returns a free state of the pool.
func (p *txnStates) takePooled() *txnState {
	st, ok := p.free.Get().(*txnState)
	if !ok {
		st = p.add()
	}
	st.gen.Next()
	st.tally.gen.Store(st.gen.Own())
	return st
}

func (p *txnStates) add() *txnState {
	t := &tally{pool: &p.free}
	st := &txnState{e: p.e, tally: t}
	t.state = weak.Make(st)
	p.mu.Lock()
	p.pooled[t] = struct{}{}
	p.mu.Unlock()
	runtime.AddCleanup(st, func(t *tally) {
		p.mu.Lock()
		delete(p.pooled, t)
		p.gone += t.gen.Load() / 2
		p.mu.Unlock()
	}, t)
	return st
}

// hold sets what a writing transaction begins with. Its session is locked.
func (st *txnState) hold(s *session, sh *shard, base *record, ctx context.Context, mode txnMode, place uint64, now int64) {
	st.begin(s, base, ctx)
	st.sh = sh
	st.place.Store(place)
	st.seen, st.now, st.mode, st.locked, st.inPlace = s.seen.Load(), now, mode, true, base != nil
}

// ownRecord returns the state's own memory, with room for at least n bytes of fields.
func (st *txnState) ownRecord(n int) *record {
	if st.own == nil || int(st.own.room) < n {
		st.own = newRecord(n)
	}
	return st.own
}

// ownMost is the largest session, in bytes of fields, that is copied to a state's own memory.
const ownMost = 4 << 10

// viewCopies is how many Views copy a session before it is published again. See snapshotLocked.
const viewCopies = 4

// snapshotLocked sets what a View sees of a session that is alive. A record that is published is free to read
// from then on, but costs the next commit a clone. So after such a clone the next few Views take copies, which
// allocate nothing; only when still no commit has come is it published. copies counts
// them down from viewCopies+1 to 1; 0 is a session that has met no such conflict.
func (st *txnState) snapshotLocked(s *session) {
	r := s.priv.Load()
	if r.copies <= 1 || r.used > ownMost || s.isPublished() {
		st.base = s.publishLocked()
		return
	}
	r.copies--
	st.base = st.ownRecord(int(r.used))
	r.copyTo(st.base)
}

// arenaKept is the largest staging memory that a state keeps between uses.
const arenaKept = 64 << 10

// end frees the state. Handles on it are dead from here on.
func (st *txnState) end() {
	st.next, st.block = nil, nil
	if n := len(st.staged); n > 0 {
		for i := range st.staged {
			st.staged[i].key = ""
		}
		st.staged, st.arena = st.staged[:0], st.arena[:0]
		if cap(st.arena) > arenaKept || n > 1024 {
			st.staged, st.arena = nil, nil
		}
	}
	st.locked, st.durable, st.destroy, st.noTouch = false, false, false, false
	st.release()
}

// release is end for a state that nothing was staged in.
func (st *txnState) release() {
	st.base, st.ctx = nil, nil
	st.gen.Next() // last: from here on a processor's state may be another's
	if st.tally != nil {
		st.pool()
	}
}

// pool gives a state back to the pool that it is of.
//
//go:noinline
func (st *txnState) pool() {
	st.tally.gen.Store(st.gen.Own())
	st.tally.pool.Put(st)
}

// begin names what the state is of: stores side by side, so that the compiler asks for the write barrier once.
func (st *txnState) begin(s *session, base *record, ctx context.Context) {
	st.s.Store(s)
	st.base, st.ctx = base, ctx
}

// each calls fn for every state there is.
func (p *txnStates) each(fn func(*txnState)) {
	p.proc.each(fn)
	for _, t := range p.tallies() {
		if st := t.state.Value(); st != nil {
			fn(st)
		}
	}
}

func (p *txnStates) tallies() []*tally {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Collect(maps.Keys(p.pooled))
}

// begun returns how many transactions have begun, and how many run.
func (p *txnStates) begun() (n uint64, running int64) {
	count := func(gen uint64) {
		n += (gen + 1) / 2
		running += int64(gen & 1)
	}
	p.proc.each(func(st *txnState) { count(st.gen.Load()) })
	p.mu.Lock()
	defer p.mu.Unlock()
	for t := range p.pooled {
		count(t.gen.Load())
	}
	return n + p.gone, running
}

// placeOf returns the code address of a callback. Keeping it, and not the
// callback, leaves the caller's closure on its stack.
func placeOf[F func(Txn) error | func([]Txn) error](fn F) uint64 {
	if fn == nil {
		return 0
	}
	return uint64(**(**uintptr)(unsafe.Pointer(&fn)))
}

func (t Txn) valid() bool { return t.state != nil && t.state.gen.Load() == t.gen }

// check returns the error of a Txn that is used too late, or was never begun, or must not write.
func (t Txn) check(writes bool) error {
	if t.valid() && (!writes || t.state.mode != modeView) {
		return nil
	}
	return t.refused()
}

func (t Txn) refused() error {
	if !t.valid() {
		return ErrTxnDone
	}
	return ErrReadOnly
}

// stagedAt returns the place of key among the staged changes, which are sorted.
func (st *txnState) stagedAt(key string) (int, bool) {
	switch n := len(st.staged); {
	case n == 0:
		return 0, false
	case st.staged[n-1].key < key:
		return n, false
	}
	return slices.BinarySearchFunc(st.staged, key, func(c change, k string) int { return strings.Compare(c.key, k) })
}

func (st *txnState) lookup(key string) (value []byte, ok bool) {
	if len(st.staged) > 0 {
		if i, found := st.stagedAt(key); found {
			c := &st.staged[i]
			return c.value, !c.del
		}
	}
	return st.base.get(key)
}

// checkKey refuses keys that are out of range or the engine's own.
func checkKey(key string) error {
	if uint(len(key)-1) < MaxKeyLen && key[0] != 0 {
		return nil
	}
	return checkKeySlow(key)
}

func checkKeySlow(key string) error {
	if len(key) == 0 || len(key) > MaxKeyLen || strings.HasPrefix(key, reservedPrefix) {
		return fmt.Errorf("%w: %d bytes", ErrInvalidKey, len(key))
	}
	return nil
}

// ID returns the session's id, "" when the transaction has ended.
func (t Txn) ID() string {
	if !t.valid() {
		return ""
	}
	return t.state.s.Own().id()
}

// Info describes the session as it was when the transaction began, but for
// User, which is the one that SetUser staged. It is zero when the transaction has ended.
func (t Txn) Info() Info {
	if !t.valid() {
		return Info{}
	}
	st := t.state
	info := st.e.infoOf(st.s.Own().id(), st.base, st.seen)
	if v, ok := st.lookup(keyUser); ok {
		info.User, _ = decodeUser(v)
	} else {
		info.User = ""
	}
	return info
}

// Get returns a copy of the key's value, and whether there is one.
func (t Txn) Get(key string) (value []byte, ok bool) {
	v, ok := t.Peek(key)
	if !ok {
		return nil, false
	}
	return append(make([]byte, 0, len(v)), v...), true
}

// Peek returns the key's value without copying it. The caller must not change
// it, nor keep it after the callback has returned: a later commit may then
// write to its memory.
func (t Txn) Peek(key string) (value []byte, ok bool) {
	v, ok, err := t.peek(key)
	if err != nil {
		return nil, false
	}
	return v, ok
}

func (t Txn) peek(key string) (value []byte, ok bool, err error) {
	if err := t.check(false); err != nil {
		return nil, false, err
	}
	if err := checkKey(key); err != nil {
		return nil, false, err
	}
	v, ok := t.state.lookup(key)
	return v, ok, nil
}

// Set stages a copy of value for key. An empty value is a value. It returns
// ErrReadOnly in a View, ErrInvalidKey for a key that is empty, too long or reserved, and
// ErrTooLarge for a value that no session can hold; whether the whole session fits
// [Options.MaxSessionSize] is known only at the end and is the verb's error then.
func (t Txn) Set(key string, value []byte) error {
	if err := t.check(true); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	if len(value) > t.state.e.opt.MaxSessionSize {
		return fmt.Errorf("%w: value of %d bytes", ErrTooLarge, len(value))
	}
	t.state.set(key, value)
	return nil
}

// change returns the staged change of key, adding it in its place if there is none.
func (st *txnState) change(key string) *change {
	i, found := 0, false
	if len(st.staged) > 0 {
		i, found = st.stagedAt(key)
	}
	switch n := len(st.staged); {
	case found:
		return &st.staged[i]
	case i == n && n < cap(st.staged): // nearly always
		st.staged = st.staged[:n+1]
	default:
		st.staged = slices.Insert(st.staged, i, change{})
	}
	c := &st.staged[i]
	c.key, c.del = key, false
	c.locate(st.base)
	return c
}

// stage is Set for a tag byte and n bytes that the caller is to fill in.
func (t Txn) stage(key string, tag byte, n int) ([]byte, error) {
	st := t.state
	if st == nil || st.gen.Load() != t.gen || st.mode == modeView {
		return nil, t.refused()
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	if n >= st.e.opt.MaxSessionSize {
		return nil, fmt.Errorf("%w: value of %d bytes", ErrTooLarge, n)
	}
	value := st.stage(key, 1+n).value
	value[0] = tag
	return value[1:], nil
}

// set stages a value. Bytes already staged are never overwritten, because Peek
// may have lent them.
func (st *txnState) set(key string, value []byte) {
	copy(st.stage(key, len(value)).value, value)
}

// stage makes room for a value of n bytes.
func (st *txnState) stage(key string, n int) *change {
	if len(st.staged) == 0 && cap(st.staged) > 0 && n <= cap(st.arena) { // the first one: nearly always
		st.staged = st.staged[:1]
		c := &st.staged[0]
		c.key, c.del = key, false
		c.at, c.vlen, c.has = st.base.find(key)
		st.inPlace = st.inPlace && c.has && c.vlen == n && key[0] != 0
		st.arena = st.arena[:n]
		c.value = st.arena[:n:n]
		return c
	}
	c := st.change(key)
	st.inPlace = st.inPlace && c.has && c.vlen == n && key[0] != 0
	if cap(st.arena)-len(st.arena) < n {
		// The values staged so far keep the old memory.
		st.arena = make([]byte, 0, max(256, min(2*cap(st.arena), 1<<20), n))
	}
	at := len(st.arena)
	st.arena = st.arena[:at+n]
	c.value = st.arena[at : at+n : at+n]
	c.del = false
	return c
}

// addFirst is Add for an int64 that is there, as the first change: nearly always. The field is looked for
// once. It reports false, with nothing staged, where there is more to it.
func (st *txnState) addFirst(key string, delta int64) (sum int64, ok bool) {
	const size = 1 + 8
	if uint(len(key)-1) >= MaxKeyLen || key[0] == 0 || len(st.staged) != 0 || cap(st.staged) == 0 || cap(st.arena) < size {
		return 0, false
	}
	at, vlen, has := st.base.find(key)
	if !has || vlen != size {
		return 0, false
	}
	old := (*[size]byte)(unsafe.Add(unsafe.Pointer(st.base), recordHeader+at+fieldHeader+len(key)))
	v := int64(binary.LittleEndian.Uint64(old[1:]))
	sum = v + delta
	if old[0] != tagInt || (sum > v) != (delta > 0) {
		return 0, false
	}
	st.arena = st.arena[:size]
	st.arena[0] = tagInt
	binary.LittleEndian.PutUint64(st.arena[1:], uint64(sum))
	st.staged = st.staged[:1]
	c := &st.staged[0]
	c.key, c.value, c.del = key, st.arena[:size:size], false
	c.at, c.vlen, c.has = at, size, true
	return sum, true
}

// Delete stages the removal of key. Deleting what is not there changes nothing.
func (t Txn) Delete(key string) error {
	if err := t.check(true); err != nil {
		return err
	}
	if err := checkKey(key); err != nil {
		return err
	}
	t.state.del(key)
	return nil
}

func (st *txnState) del(key string) {
	c := st.change(key)
	c.value, c.del = nil, true
	st.inPlace = false
}

// nextField returns the first field after the key, staged changes included.
func (st *txnState) nextField(after string) (key string, value []byte, ok bool) {
	i, found := st.stagedAt(after)
	if found {
		i++
	}
	for {
		key, value, ok = st.base.next(after)
		if i >= len(st.staged) || ok && key < st.staged[i].key {
			return key, value, ok
		}
		c := &st.staged[i]
		i++
		if !c.del {
			return c.key, c.value, true
		}
		after = c.key
	}
}

// All yields the keys in order with their values, those of the engine and its
// packages (which begin with 0x00) left out. Values are borrowed, as Peek's are. The body may
// change the session: keys not reached yet are seen as they then are.
func (t Txn) All() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		key, value, ok := "\x00\xff", []byte(nil), true
		for t.valid() {
			key, value, ok = t.state.nextField(key)
			if !ok || key[0] != 0 && !yield(key, value) {
				return
			}
		}
	}
}

// Len returns the number of keys that All yields.
func (t Txn) Len() int {
	n := 0
	if !t.valid() {
		return 0
	}
	if len(t.state.staged) > 0 {
		for range t.All() {
			n++
		}
		return n
	}
	r := t.state.base
	if r == nil {
		return 0
	}
	n = int(r.fields)
	for d := r.data(); len(d) > 0 && d[fieldHeader] == 0; n-- {
		k, v := fieldLengths(d)
		d = d[fieldHeader+k+v:]
	}
	return n
}

// SetIdleTimeout gives the session an idle timeout of its own: 0 back to the
// engine's, NoTimeout none. Less than 10 ms is refused.
func (t Txn) SetIdleTimeout(d time.Duration) error {
	if err := t.check(true); err != nil {
		return err
	}
	switch {
	case d == 0:
		t.state.del(keyIdle)
		return nil
	case d == NoTimeout:
		t.state.setInt(keyIdle, -1)
		return nil
	case d < 10*time.Millisecond:
		return fmt.Errorf("sessile: idle timeout out of range: %v", d)
	}
	t.state.setInt(keyIdle, d.Milliseconds())
	return nil
}

// SetDeadline makes the session end at a time, instead of the engine's
// Lifetime after its creation. The zero time clears it. A time in the past ends it
// with this commit, as expired.
func (t Txn) SetDeadline(at time.Time) error {
	if err := t.check(true); err != nil {
		return err
	}
	if at.IsZero() {
		t.state.del(keyDeadline)
		return nil
	}
	t.state.setInt(keyDeadline, max(0, at.UnixMilli()))
	return nil
}

func (st *txnState) setInt(key string, v int64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(v))
	st.set(key, b[:])
}

// NoTouch keeps this transaction from counting as use of the session: its
// last-seen, and with it the idle timeout, stay as they are.
func (t Txn) NoTouch() {
	if t.valid() {
		t.state.noTouch = true
	}
}

// SetUser binds the session to a user: ByUser and DeleteUser find it from this
// commit on, and KeepNewest counts it as begun now. "" makes it anonymous again. A name of more
// than MaxIDLen bytes is ErrInvalidID.
func (t Txn) SetUser(user string) error {
	if err := t.check(true); err != nil {
		return err
	}
	if len(user) > MaxIDLen {
		return fmt.Errorf("%w: user of %d bytes", ErrInvalidID, len(user))
	}
	if user == "" {
		t.state.del(keyUser)
		return nil
	}
	var b [8 + MaxIDLen]byte
	binary.LittleEndian.PutUint64(b[:], uint64(t.state.e.clock.now()))
	t.state.set(keyUser, b[:8+copy(b[8:], user)])
	return nil
}

// Destroy ends the session when the callback returns nil; everything else
// staged is dropped. It implies Durable.
func (t Txn) Destroy() error {
	if err := t.check(true); err != nil {
		return err
	}
	t.state.destroy, t.state.durable = true, true
	return nil
}

// Changes returns how many keys the commit would change, those that the session keeps for its
// user, its tokens and its timeouts included. That a key is deleted which the session does not have is no change.
func (t Txn) Changes() (n int) {
	if !t.valid() {
		return 0
	}
	for i := range t.state.staged {
		if !t.state.staged[i].void() {
			n++
		}
	}
	return n
}

// Durable makes the verb return only when this commit is on disk, and all
// before it. If that cannot be confirmed the verb returns ErrDurabilityUnknown, and the commit stands.
func (t Txn) Durable() {
	if t.valid() {
		t.state.durable = true
	}
}

// decodeError asks the owner what a value that cannot be decoded counts as.
func (t Txn) decodeError(key string, value []byte, err error) error {
	if f := t.state.e.opt.OnDecodeError; f != nil {
		return f(t.ID(), key, bytes.Clone(value), err)
	}
	return err
}

// txnContext marks a context as that of a running callback.
type txnContext struct {
	context.Context
	txn Txn
}

type txnContextKey struct{}

func (c *txnContext) Value(key any) any {
	if key == (txnContextKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// Context returns the verb's context with a mark by which the engine notices
// its own verbs being called inside the callback: they return ErrReentrant where they
// would wait for the session that the caller itself holds. Pass it to everything that the callback calls.
func (t Txn) Context() context.Context {
	if !t.valid() {
		return context.Background()
	}
	return &txnContext{t.state.ctx, t}
}

// reentrant reports whether ctx is that of a callback that still runs, in this
// engine.
func (e *Engine) reentrant(ctx context.Context) bool {
	for {
		c, ok := ctx.Value(txnContextKey{}).(*txnContext)
		if !ok {
			return false
		}
		if c.txn.valid() && c.txn.state.e == e {
			return true
		}
		ctx = c.Context
	}
}

// funcName returns where a callback is, for the log.
func funcName(place uintptr) string {
	f := runtime.FuncForPC(place)
	if f == nil {
		return "?"
	}
	file, line := f.FileLine(place)
	return fmt.Sprintf("%s (%s:%d)", f.Name(), file, line)
}
