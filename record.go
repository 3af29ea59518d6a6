package sessile

import (
	"encoding/binary"
	"fmt"
	"iter"
	"math"
	"slices"
	"strings"
	"unsafe"
)

// A record is the state of one session: this header and, behind it in the same
// pointer-free allocation, the fields in key order. The garbage collector never
// looks into it, and loading or writing one is a copy.
//
// A field is a 4-byte little-endian header (key length in the low byte, value
// length above it), the key and the value.
//
// What the engine itself keeps about a session (its own idle timeout and
// deadline, its user, its tokens) lies in fields too, under reserved keys that
// sort before all others. So it is staged, logged, recovered and rolled back by
// the same code as everything else. The flags say which of them are there, so
// that the common session without them pays nothing.
//
// A record that was published is immutable. Any other one that is reached through
// session.priv is changed in place, under the latch, by the commit of the holder
// of the session lock.
type record struct {
	version uint64
	created int64  // engine time, in ms
	used    uint32 // bytes of fields
	room    uint32 // bytes there are for fields
	saved   uint32 // last-seen as last logged, in s after created; guarded by the latch
	flags   uint8
	copies  uint8  // see snapshotLocked; guarded by the latch
	fields  uint16 // number of fields
}

const (
	recordHeader = int(unsafe.Sizeof(record{}))
	fieldHeader  = 4
	// removed stands for the value length in the delta of a deleted field.
	removed = 1<<24 - 1
)

// The reserved keys. Their last byte tells them apart; flagOf maps it to a flag.
const (
	reservedPrefix = "\x00\x00"
	keyDeadline    = reservedPrefix + "d" // 8 bytes: engine time in ms
	keyIdle        = reservedPrefix + "i" // 8 bytes: ms, negative for none
	keyTokens      = reservedPrefix + "t" // see token.go
	keyUser        = reservedPrefix + "u" // 8 bytes: time of SetUser in ms; the user
)

const (
	flagDeadline uint8 = 1 << iota
	flagIdle
	flagTokens
	flagUser
)

func flagOf(key string) uint8 {
	switch key {
	case keyDeadline:
		return flagDeadline
	case keyIdle:
		return flagIdle
	case keyTokens:
		return flagTokens
	case keyUser:
		return flagUser
	}
	return 0
}

// newRecord returns an empty record with room for at least n bytes of fields;
// the rest of the allocator's size class is room, too.
func newRecord(n int) *record {
	// The last byte stays unused: an empty value that is the last must not point past the allocation.
	words := append([]uint64(nil), make([]uint64, (recordHeader+n+1+7)/8)...)
	r := (*record)(unsafe.Pointer(unsafe.SliceData(words)))
	r.room = uint32(cap(words)*8 - recordHeader - 1)
	return r
}

// size is the memory that the record takes, in bytes.
func (r *record) size() int {
	if r == nil {
		return 0
	}
	return recordHeader + int(r.room) + 1
}

func (r *record) buffer() []byte {
	return unsafe.Slice((*byte)(unsafe.Add(unsafe.Pointer(r), recordHeader)), r.room)
}

func (r *record) data() []byte { return r.buffer()[:r.used:r.used] }

// clone returns a copy with room for at least n bytes of fields.
func (r *record) clone(n int) *record {
	c := newRecord(max(n, int(r.used)))
	r.copyTo(c)
	return c
}

// copyTo copies the record over another one that has room for it.
func (r *record) copyTo(c *record) {
	room := c.room
	*c = *r
	c.room = room
	copy(c.buffer(), r.data())
}

func putFieldHeader(b []byte, klen, vlen int) {
	binary.LittleEndian.PutUint32(b, uint32(klen)|uint32(vlen)<<8)
}

func fieldLengths(b []byte) (klen, vlen int) {
	h := binary.LittleEndian.Uint32(b)
	return int(h & 0xff), int(h >> 8)
}

// find returns the offset of the key's field and the length of its value. It calls nothing, so it needs no frame and
// keeps all in registers, because every Get and Set comes through here: keys are compared by words that overlap. The fields of
// a record are known to be whole.
func (r *record) find(key string) (at, vlen int, ok bool) {
	if r == nil {
		return 0, 0, false
	}
	data, used := unsafe.Add(unsafe.Pointer(r), recordHeader), int(r.used)
	other, n := unsafe.Pointer(unsafe.StringData(key)), len(key)
	for at < used {
		h := *(*[fieldHeader]byte)(unsafe.Add(data, at))
		k, v := fieldLengths(h[:])
		if k == n {
			name := unsafe.Add(data, at+fieldHeader)
			switch {
			case n >= 8:
				i, last := 0, n-8
				for i < last && *(*[8]byte)(unsafe.Add(name, i)) == *(*[8]byte)(unsafe.Add(other, i)) {
					i += 8
				}
				if i >= last && *(*[8]byte)(unsafe.Add(name, last)) == *(*[8]byte)(unsafe.Add(other, last)) {
					return at, v, true
				}
			case n >= 4:
				if *(*[4]byte)(name) == *(*[4]byte)(other) && *(*[4]byte)(unsafe.Add(name, n-4)) == *(*[4]byte)(unsafe.Add(other, n-4)) {
					return at, v, true
				}
			case n > 0:
				if *(*byte)(name) == *(*byte)(other) && *(*byte)(unsafe.Add(name, n/2)) == *(*byte)(unsafe.Add(other, n/2)) &&
					*(*byte)(unsafe.Add(name, n-1)) == *(*byte)(unsafe.Add(other, n-1)) {
					return at, v, true
				}
			}
		}
		at += fieldHeader + k + v
	}
	return 0, 0, false
}

// get returns the value of key, borrowed.
func (r *record) get(key string) ([]byte, bool) {
	at, n, ok := r.find(key)
	if !ok {
		return nil, false
	}
	return unsafe.Slice((*byte)(r.valueAt(at, key)), n), true
}

// valueAt returns the value of the field of key that is at the offset.
func (r *record) valueAt(at int, key string) unsafe.Pointer {
	return unsafe.Add(unsafe.Pointer(r), recordHeader+at+fieldHeader+len(key))
}

// next returns the first field whose key is greater than after, borrowed.
func (r *record) next(after string) (key string, value []byte, ok bool) {
	if r == nil {
		return "", nil, false
	}
	d := r.data()
	for at := 0; at < len(d); {
		k, v := fieldLengths(d[at:])
		name := d[at+fieldHeader : at+fieldHeader+k]
		if string(name) > after {
			start := at + fieldHeader + k
			return string(name), d[start : start+v : start+v], true
		}
		at += fieldHeader + k + v
	}
	return "", nil, false
}

// A change sets or deletes one field.
type change struct {
	key   string
	value []byte
	del   bool
	has   bool // the base has the field, at the offset at, with vlen bytes
	at    int
	vlen  int
}

// locate notes where the base has the change's field.
func (c *change) locate(base *record) { c.at, c.vlen, c.has = base.find(c.key) }

// void reports whether the change changes nothing.
func (c *change) void() bool { return c.del && !c.has }

// grows returns by how much the change lengthens the fields, and their number.
func (c *change) grows() (bytes, fields int) {
	if c.has {
		bytes -= fieldHeader + len(c.key) + c.vlen
		fields--
	}
	if !c.del {
		bytes += fieldHeader + len(c.key) + len(c.value)
		fields++
	}
	return bytes, fields
}

// fits reports whether every change overwrites a field by one of its size.
func fits(changes []change) bool {
	for i := range changes {
		c := &changes[i]
		if !c.has || c.del || len(c.value) != c.vlen {
			return false
		}
	}
	return true
}

// overwrite applies changes that fit, in place.
func (r *record) overwrite(changes []change) {
	for i := range changes {
		c := &changes[i]
		put(unsafe.Add(unsafe.Pointer(r), recordHeader+c.at+fieldHeader+len(c.key)), c.value)
	}
}

// put copies a value to where there is room for it, a short one without a call.
func put(dst unsafe.Pointer, value []byte) {
	n := len(value)
	if n < 8 || n > 16 {
		copy(unsafe.Slice((*byte)(dst), n), value)
		return
	}
	src := unsafe.Pointer(unsafe.SliceData(value))
	*(*[8]byte)(dst) = *(*[8]byte)(src)
	*(*[8]byte)(unsafe.Add(dst, n-8)) = *(*[8]byte)(unsafe.Add(src, n-8))
}

// merge returns a new record: base (nil: empty) with the changes, which are
// sorted by key, applied. It takes O(fields + changes).
func merge(base *record, changes []change) *record {
	used, _ := base.with(changes)
	r := newRecord(used)
	r.merge(base, changes)
	return r
}

// with returns how many bytes and fields the record (nil: none) has with the changes applied.
func (r *record) with(changes []change) (used, fields int) {
	if r != nil {
		used, fields = int(r.used), int(r.fields)
	}
	for i := range changes {
		b, n := changes[i].grows()
		used, fields = used+b, fields+n
	}
	return used, fields
}

// merge makes the record, which has room for it, base with the changes applied.
func (r *record) merge(base *record, changes []change) {
	*r = record{room: r.room}
	var d []byte
	if base != nil {
		// saved is left out: it is the latch's, which the caller does not hold.
		r.version, r.created = base.version, base.created
		d = base.data()
	}
	for len(d) > 0 || len(changes) > 0 {
		var key []byte
		k, v := 0, 0
		if len(d) > 0 {
			k, v = fieldLengths(d)
			key = d[fieldHeader : fieldHeader+k]
		}
		if len(changes) == 0 || key != nil && string(key) < changes[0].key {
			r.append(d[:fieldHeader+k+v], flagOf(string(key)))
			d = d[fieldHeader+k+v:]
			continue
		}
		c := &changes[0]
		changes = changes[1:]
		if key != nil && string(key) == c.key {
			d = d[fieldHeader+k+v:]
		}
		if !c.del {
			b := r.buffer()[r.used:]
			putFieldHeader(b, len(c.key), len(c.value))
			n := fieldHeader + copy(b[fieldHeader:], c.key)
			n += copy(b[n:], c.value)
			r.used += uint32(n)
			r.fields++
			r.flags |= flagOf(c.key)
		}
	}
}

func (r *record) append(field []byte, flag uint8) {
	copy(r.buffer()[r.used:], field)
	r.used += uint32(len(field))
	r.fields++
	r.flags |= flag
}

// never is the engine time of what does not happen.
const never = math.MaxInt64

// A lifespan is the engine-wide part of expiry, in ms; negative: none.
type lifespan struct {
	idle, lifetime     int64
	idleOr, lifetimeOr int64 // the same, or longer than anything lasts
}

func newLifespan(idle, lifetime int64) lifespan {
	l := lifespan{idle, lifetime, idle, lifetime}
	if idle < 0 {
		l.idleOr = never
	}
	if lifetime < 0 {
		l.lifetimeOr = never
	}
	return l
}

// idle returns the idle timeout that holds for the session, in ms; negative: none.
func (r *record) idle(l lifespan) int64 {
	if r.flags&flagIdle != 0 {
		if v, ok := r.get(keyIdle); ok {
			return int64(binary.LittleEndian.Uint64(v))
		}
	}
	return l.idle
}

// expires returns the engine time at which the session ends if it is not
// touched after seen.
func (r *record) expires(seen int64, l lifespan) int64 {
	at := int64(never)
	if r.flags&flagDeadline != 0 {
		if v, ok := r.get(keyDeadline); ok {
			at = int64(binary.LittleEndian.Uint64(v))
		}
	} else if l.lifetime >= 0 {
		at = later(r.created, l.lifetime)
	}
	if idle := r.idle(l); idle >= 0 {
		at = min(at, later(seen, idle))
	}
	return at
}

// lives reports whether the session certainly has not ended by now if it was last seen then: nearly always enough, and
// inlined.
func (r *record) lives(seen, now int64, l *lifespan) bool {
	return r.flags&(flagDeadline|flagIdle) == 0 && now-seen < l.idleOr && now-r.created < l.lifetimeOr
}

// expired reports whether the session has ended by now if it was last seen then.
func (r *record) expired(seen, now int64, l *lifespan) bool {
	return !r.lives(seen, now, l) && r.expires(seen, *l) <= now
}

// later adds without overflow.
func later(t, d int64) int64 {
	if t > never-d {
		return never
	}
	return t + d
}

// user returns the user and when it was set; "" for none.
func (r *record) user() (user string, since int64) {
	if r == nil || r.flags&flagUser == 0 {
		return "", 0
	}
	v, _ := r.get(keyUser)
	return decodeUser(v)
}

func decodeUser(v []byte) (user string, since int64) {
	if len(v) < 8 {
		return "", 0
	}
	return string(v[8:]), int64(binary.LittleEndian.Uint64(v))
}

// hasUser compares without allocating.
func (r *record) hasUser(user string) bool {
	v, ok := r.get(keyUser)
	return ok && len(v) >= 8 && string(v[8:]) == user
}

// The record on disk: format, created, last-seen, then the fields. The version
// stands before it in the clear, and is part of what the envelope authenticates.
const (
	recordFormat   = 1
	recordDiskHead = 1 + 8 + 8
)

// appendDisk appends the record's disk form, without version and envelope.
func (r *record) appendDisk(dst []byte, seen int64) []byte {
	dst = append(dst, recordFormat)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(r.created))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(seen))
	return append(dst, r.data()...)
}

// decodeRecord is the inverse of appendDisk. It trusts nothing: the fields must
// be whole, in order and within the limits.
func decodeRecord(b []byte, version uint64) (r *record, seen int64, err error) {
	if len(b) < recordDiskHead {
		return nil, 0, fmt.Errorf("%w: record of %d bytes", ErrCorrupt, len(b))
	}
	if b[0] != recordFormat {
		return nil, 0, fmt.Errorf("%w: record format %d", ErrUnsupported, b[0])
	}
	created := int64(binary.LittleEndian.Uint64(b[1:]))
	seen = int64(binary.LittleEndian.Uint64(b[9:]))
	body := b[recordDiskHead:]
	r = newRecord(len(body))
	r.version, r.created = version, created
	last := ""
	for f := range fieldsOf(body) {
		if f.err != nil {
			return nil, 0, f.err
		}
		if f.del || f.key <= last && last != "" {
			return nil, 0, fmt.Errorf("%w: record fields out of order", ErrCorrupt)
		}
		last = f.key
		r.flags |= flagOf(f.key)
		if r.fields == MaxKeys {
			return nil, 0, fmt.Errorf("%w: record has too many fields", ErrCorrupt)
		}
		r.fields++
	}
	copy(r.buffer(), body)
	r.used = uint32(len(body))
	r.setSaved(seen)
	return r, seen, nil
}

type decodedField struct {
	key   string
	value []byte
	del   bool
	err   error
}

// fieldsOf parses fields, those of a delta included. At most one error, last.
// Keys and values are borrowed from b.
func fieldsOf(b []byte) iter.Seq[decodedField] {
	return func(yield func(decodedField) bool) {
		for len(b) > 0 {
			if len(b) < fieldHeader {
				yield(decodedField{err: fmt.Errorf("%w: field cut short", ErrCorrupt)})
				return
			}
			k, v := fieldLengths(b)
			del := v == removed
			if del {
				v = 0
			}
			if k == 0 || len(b) < fieldHeader+k+v {
				yield(decodedField{err: fmt.Errorf("%w: field cut short", ErrCorrupt)})
				return
			}
			key := unsafe.String(&b[fieldHeader], k)
			f := decodedField{key: key, value: b[fieldHeader+k : fieldHeader+k+v], del: del}
			if !f.del && !validReserved(f.key, f.value) {
				yield(decodedField{err: fmt.Errorf("%w: reserved field of %d bytes", ErrCorrupt, v)})
				return
			}
			if !yield(f) {
				return
			}
			b = b[fieldHeader+k+v:]
		}
	}
}

// validReserved checks the lengths that later code relies on.
func validReserved(key string, value []byte) bool {
	if !strings.HasPrefix(key, reservedPrefix) {
		return true
	}
	switch key {
	case keyDeadline, keyIdle:
		return len(value) == 8
	case keyUser:
		return len(value) > 8 && len(value) <= 8+MaxIDLen
	}
	return true
}

func (r *record) setSaved(seen int64) {
	r.saved = uint32(min(max(seen-r.created, 0)/1000, math.MaxUint32))
}

// savedSeen is last-seen as last logged, rounded down to a second.
func (r *record) savedSeen() int64 { return r.created + int64(r.saved)*1000 }

// The delta of one commit in the log:
//
//	length 4 | kind 1 | id length - 1, 1 | version 8 | last-seen 8 | id | fields
//
// Fields carry absolute values, so redoing a delta twice is redoing it once.
// A creation carries all fields, and its last-seen is its time of creation.
const (
	deltaChange byte = iota + 1
	deltaCreate
	deltaEnd
	deltaTouch

	deltaHeader = 4 + 1 + 1 + 8 + 8
)

// appendDelta appends a delta whose fields are the changes.
func appendDelta(dst []byte, kind byte, id string, version uint64, seen int64, changes []change) []byte {
	start := len(dst)
	dst = slices.Grow(dst, deltaHeader+len(id)+64)
	dst = append(dst, 0, 0, 0, 0, kind, byte(len(id)-1))
	dst = binary.LittleEndian.AppendUint64(dst, version)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(seen))
	dst = append(dst, id...)
	for i := range changes {
		c := &changes[i]
		if c.void() {
			continue
		}
		vlen := len(c.value)
		if c.del {
			vlen = removed
		}
		dst = binary.LittleEndian.AppendUint32(dst, uint32(len(c.key))|uint32(vlen)<<8)
		dst = append(dst, c.key...)
		if !c.del {
			dst = append(dst, c.value...)
		}
	}
	binary.LittleEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// redate replaces version and last-seen of the delta at b.
func redate(b []byte, version uint64, seen int64) {
	binary.LittleEndian.PutUint64(b[6:], version)
	binary.LittleEndian.PutUint64(b[14:], uint64(seen))
}

// shapeOf is not 0 for a single change in place: by the field's place. Two such changes of a record whose fields have not
// moved between them have deltas of the same layout if their shapes are the same.
func shapeOf(changes []change) uint32 {
	if len(changes) != 1 || !fits(changes) {
		return 0
	}
	return uint32(changes[0].at + 1)
}

// overwriteDelta replaces version, last-seen and values of the delta at b by those of
// the changes, if it has the same fields with the same lengths, and reports
// whether it did.
func overwriteDelta(b []byte, idLen int, version uint64, seen int64, changes []change) bool {
	length := int(binary.LittleEndian.Uint32(b))
	if kind := b[4]; kind != deltaChange {
		return false
	}
	at := deltaHeader + idLen
	for i := range changes {
		c := &changes[i]
		if c.del || at+fieldHeader > length {
			return false
		}
		k, v := fieldLengths(b[at:])
		if k != len(c.key) || v != len(c.value) || string(b[at+fieldHeader:at+fieldHeader+k]) != c.key {
			return false
		}
		at += fieldHeader + k + v
	}
	if at != length {
		return false
	}
	redate(b, version, seen)
	at = deltaHeader + idLen
	for i := range changes {
		c := &changes[i]
		at += fieldHeader + len(c.key)
		at += copy(b[at:], c.value)
	}
	return true
}

// A delta is one decoded log entry; id and body are borrowed.
type delta struct {
	kind    byte
	id      string
	version uint64
	seen    int64
	body    []byte
}

// decodeDelta parses the first delta of b and returns the rest.
func decodeDelta(b []byte) (d delta, rest []byte, err error) {
	if len(b) < deltaHeader {
		return d, nil, fmt.Errorf("%w: log entry cut short", ErrCorrupt)
	}
	n := int(binary.LittleEndian.Uint32(b))
	d.kind = b[4]
	idLen := int(b[5]) + 1
	if n < deltaHeader+idLen || n > len(b) || d.kind < deltaChange || d.kind > deltaTouch {
		return d, nil, fmt.Errorf("%w: log entry of length %d and kind %d", ErrCorrupt, n, d.kind)
	}
	d.version = binary.LittleEndian.Uint64(b[6:])
	d.seen = int64(binary.LittleEndian.Uint64(b[14:]))
	d.id = string(b[deltaHeader : deltaHeader+idLen])
	d.body = b[deltaHeader+idLen : n]
	return d, b[n:], nil
}

// changesOf decodes the delta's body into changes located in base. What they make of
// base is a record that decodeRecord takes.
func (d delta) changesOf(base *record, dst []change) ([]change, error) {
	fields := 0
	if base != nil {
		fields = int(base.fields)
	}
	for f := range fieldsOf(d.body) {
		if f.err != nil {
			return nil, f.err
		}
		c := change{key: f.key, value: f.value, del: f.del}
		if len(dst) > 0 && c.key <= dst[len(dst)-1].key {
			return nil, fmt.Errorf("%w: log entry's fields out of order", ErrCorrupt)
		}
		c.locate(base)
		_, n := c.grows()
		fields += n
		dst = append(dst, c)
	}
	if fields > MaxKeys {
		return nil, fmt.Errorf("%w: log entry makes %d fields", ErrCorrupt, fields)
	}
	return dst, nil
}
