package sessile

import (
	"context"
	"encoding"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"time"
	"unsafe"
)

// ErrOverflow is returned by [Add] when the sum does not fit the key's type. The value
// is unchanged.
var ErrOverflow = errors.New("sessile: integer overflow")

// A Key names a value of type T in a session and fixes how it is stored. Make keys
// once, as package variables, with [NewKey]; a Key is a small value and
// safe for concurrent use. The zero Key answers ErrInvalidKey, where the Txn itself would have let the call through.
//
// T decides the encoding, in NewKey:
//
//   - strings, []byte, bools, floats, time.Time and all integers have a fixed one each, named types
//     such as type Cents int64 included. All integers share one, so int may become int64 later; a stored value
//     that does not fit is an error. A time.Time keeps its instant and zone offset, not the zone's name.
//   - a type with encoding.BinaryAppender and encoding.BinaryUnmarshaler uses those.
//   - anything else is JSON.
//
// Reading a value that was stored in another encoding is an error that names key and type;
// Set and Delete never look at the old value.
type Key[T any] struct {
	name  string
	codec codec
	coder *coder[T] // for tagBinary and tagJSON
}

// A coder is the encoding of a type without a fixed one. A Key points to it and
// stays small, because it is passed by value.
type coder[T any] struct {
	encode func(dst []byte, v *T) ([]byte, error)
	decode func(src []byte, v *T) error
}

// codec is how a value is stored.
type codec struct {
	tag  byte
	kind uint8 // the reflect.Kind of T, for the fixed encodings
}

// The first byte of each value.
const (
	tagString byte = iota + 1
	tagBytes
	tagBool
	tagInt // 8 bytes little-endian; 9 for unsigned values above MaxInt64
	tagFloat
	tagTime // 8 bytes Unix seconds, 4 nanoseconds, 4 zone offset in seconds
	tagBinary
	tagJSON
)

var tagNames = [...]string{tagString: "string", tagBytes: "bytes", tagBool: "bool", tagInt: "integer",
	tagFloat: "float", tagTime: "time", tagBinary: "binary", tagJSON: "JSON"}

func tagName(tag byte) string {
	if tag == 0 || int(tag) >= len(tagNames) {
		return fmt.Sprintf("unknown encoding %d", tag)
	}
	return tagNames[tag]
}

// NewKey returns the key of a name. A name that is empty, longer than
// MaxKeyLen or reserved makes the key's methods return ErrInvalidKey.
func NewKey[T any](name string) Key[T] {
	k := Key[T]{name: name}
	t := reflect.TypeFor[T]()
	switch kind := t.Kind(); {
	case t == reflect.TypeFor[time.Time]():
		k.codec = codec{tag: tagTime}
	case k.binary():
	case kind == reflect.String:
		k.codec = codec{tag: tagString}
	case kind == reflect.Slice && t.Elem().Kind() == reflect.Uint8:
		k.codec = codec{tag: tagBytes}
	case kind == reflect.Bool:
		k.codec = codec{tag: tagBool}
	case kind >= reflect.Int && kind <= reflect.Uintptr:
		k.codec = codec{tagInt, uint8(sized(kind))}
	case kind == reflect.Float32, kind == reflect.Float64:
		k.codec = codec{tagFloat, uint8(kind)}
	default:
		k.codec = codec{tag: tagJSON}
		k.coder = &coder[T]{
			encode: func(dst []byte, v *T) ([]byte, error) {
				b, err := json.Marshal(v)
				return append(dst, b...), err
			},
			decode: func(src []byte, v *T) error { return json.Unmarshal(src, v) },
		}
	}
	if checkKey(name) != nil {
		k.codec, k.coder = codec{}, nil // so who finds a codec need not look at the name
	}
	return k
}

// sized returns the kind of fixed width that int, uint and uintptr have here.
func sized(kind reflect.Kind) reflect.Kind {
	wide := unsafe.Sizeof(0) == 8
	switch {
	case kind == reflect.Int && wide:
		return reflect.Int64
	case kind == reflect.Int:
		return reflect.Int32
	case (kind == reflect.Uint || kind == reflect.Uintptr) && wide:
		return reflect.Uint64
	case kind == reflect.Uint || kind == reflect.Uintptr:
		return reflect.Uint32
	}
	return kind
}

// binary sets the key up for a type that encodes itself.
func (k *Key[T]) binary() bool {
	_, appends := any((*T)(nil)).(encoding.BinaryAppender)
	_, unmarshals := any((*T)(nil)).(encoding.BinaryUnmarshaler)
	if !appends || !unmarshals {
		return false
	}
	k.codec = codec{tag: tagBinary}
	k.coder = &coder[T]{
		encode: func(dst []byte, v *T) ([]byte, error) {
			return any(v).(encoding.BinaryAppender).AppendBinary(dst)
		},
		decode: func(src []byte, v *T) error {
			// The value owns its memory: src is lent by the session.
			return any(v).(encoding.BinaryUnmarshaler).UnmarshalBinary(append([]byte(nil), src...))
		},
	}
	return true
}

// Name returns the key's name.
func (k Key[T]) Name() string { return k.name }

// Get returns the value, the zero T if there is none. The value owns its memory.
func (k Key[T]) Get(tx Txn) (T, error) {
	v, _, err := k.Lookup(tx)
	return v, err
}

// Lookup returns the value, and whether there is one.
func (k Key[T]) Lookup(tx Txn) (v T, ok bool, err error) {
	if st := tx.state; st != nil && k.codec.kind == uint8(reflect.Int64) && st.gen.Load() == tx.gen && len(st.staged) == 0 { // nearly always
		if at, n, ok := st.base.find(k.name); ok && n == 9 {
			if b := (*[9]byte)(st.base.valueAt(at, k.name)); b[0] == tagInt {
				*(*uint64)(unsafe.Pointer(&v)) = binary.LittleEndian.Uint64(b[1:])
				return v, true, nil
			}
		}
	}
	return k.lookup(tx)
}

func (k Key[T]) lookup(tx Txn) (v T, ok bool, err error) {
	if !tx.valid() {
		return v, false, ErrTxnDone
	}
	if err := checkKey(k.name); err != nil {
		return v, false, err
	}
	b, ok := tx.state.lookup(k.name)
	if !ok {
		return v, false, nil
	}
	if err := k.parse(b, &v); err != nil {
		var zero T
		err = fmt.Errorf("sessile: key %q as %T: %w", k.name, zero, err)
		if err = tx.decodeError(k.name, b, err); err != nil {
			return zero, false, err
		}
		return zero, false, nil
	}
	return v, true, nil
}

// Set stages the value. It returns what [Txn.Set] returns, or the encoder's error.
// Fixed encodings allocate nothing.
func (k Key[T]) Set(tx Txn, v T) error {
	p := unsafe.Pointer(&v)
	if k.codec == (codec{tagInt, uint8(reflect.Int64)}) { // nearly always
		b, err := tx.stage(k.name, tagInt, 8)
		if err == nil {
			binary.LittleEndian.PutUint64(b, *(*uint64)(p))
		}
		return err
	}
	switch k.codec.tag {
	case tagInt:
		n := loadInt(p, reflect.Kind(k.codec.kind))
		size := 8
		if n.big {
			size = 9 // the ninth is 0
		}
		b, err := tx.stage(k.name, tagInt, size)
		if err == nil {
			b[size-1] = 0
			binary.LittleEndian.PutUint64(b, n.bits)
		}
		return err
	case tagString:
		b, err := tx.stage(k.name, tagString, len(*(*string)(p)))
		copy(b, *(*string)(p))
		return err
	case tagBytes:
		b, err := tx.stage(k.name, tagBytes, len(*(*[]byte)(p)))
		copy(b, *(*[]byte)(p))
		return err
	case tagBool:
		b, err := tx.stage(k.name, tagBool, 1)
		if err == nil {
			b[0] = *(*byte)(p)
		}
		return err
	case tagFloat:
		f := float64(0)
		if reflect.Kind(k.codec.kind) == reflect.Float32 {
			f = float64(*(*float32)(p))
		} else {
			f = *(*float64)(p)
		}
		b, err := tx.stage(k.name, tagFloat, 8)
		if err == nil {
			binary.LittleEndian.PutUint64(b, math.Float64bits(f))
		}
		return err
	case tagTime:
		b, err := tx.stage(k.name, tagTime, 16)
		if err == nil {
			putTime(b, *(*time.Time)(p))
		}
		return err
	}
	return k.setEncoded(tx, v)
}

func (k Key[T]) setEncoded(tx Txn, v T) error {
	if err := tx.check(true); err != nil {
		return err
	}
	if err := checkKey(k.name); err != nil {
		return err
	}
	b, err := k.coder.encode([]byte{k.codec.tag}, &v)
	if err != nil {
		return fmt.Errorf("sessile: key %q as %T: %w", k.name, v, err)
	}
	return tx.Set(k.name, b)
}

// Delete stages the removal of the value. Deleting what is not there changes nothing.
func (k Key[T]) Delete(tx Txn) error { return tx.Delete(k.name) }

// Modify calls fn with the value, the zero T if there is none, and sets what fn
// leaves, unless fn returns an error, which Modify then returns. A value that cannot be
// decoded is an error, and fn is not called.
func (k Key[T]) Modify(tx Txn, fn func(*T) error) error {
	if err := tx.check(true); err != nil {
		return err
	}
	v, err := k.Get(tx)
	if err != nil {
		return err
	}
	if err := fn(&v); err != nil {
		return err
	}
	return k.Set(tx, v)
}

// Pop returns the value and deletes it, so that of several calls one gets it.
func (k Key[T]) Pop(tx Txn) (v T, ok bool, err error) {
	if err := tx.check(true); err != nil {
		return v, false, err
	}
	if v, ok, err = k.Lookup(tx); err != nil {
		return v, false, err
	}
	return v, ok, k.Delete(tx)
}

type integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

// Add adds delta to the key's value (0 if there is none) and returns the sum. A sum
// that T cannot hold is ErrOverflow, and nothing is set.
func Add[T integer](tx Txn, k Key[T], delta T) (T, error) {
	if k.codec == (codec{tagInt, uint8(reflect.Int64)}) && tx.check(true) == nil {
		if sum, ok := tx.state.addFirst(k.name, int64(delta)); ok {
			return T(sum), nil
		}
	}
	if err := tx.check(true); err != nil {
		return 0, err
	}
	v, err := k.Get(tx)
	if err != nil {
		return 0, err
	}
	sum := v + delta
	if delta > 0 && sum < v || delta < 0 && sum > v {
		return v, fmt.Errorf("%w: key %q: %d + %d", ErrOverflow, k.name, v, delta)
	}
	return sum, k.Set(tx, sum)
}

// A Viewer has sessions to read from. [Session] is one.
type Viewer interface {
	View(ctx context.Context, fn func(Txn) error) error
}

// Read returns one value of a session, the zero T if the key has none.
func Read[T any](ctx context.Context, v Viewer, k Key[T]) (value T, err error) {
	err = v.View(ctx, func(tx Txn) error {
		value, err = k.Get(tx)
		return err
	})
	return value, err
}

var (
	errLength = errors.New("stored value has a wrong length")
	errRange  = errors.New("stored integer is out of range")
)

// parse decodes a stored value into v.
func (k Key[T]) parse(b []byte, v *T) error {
	if len(b) == 0 {
		return errors.New("stored value has no encoding")
	}
	if b[0] != k.codec.tag {
		return fmt.Errorf("stored as %s, want %s", tagName(b[0]), tagName(k.codec.tag))
	}
	p, b := unsafe.Pointer(v), b[1:]
	switch k.codec.tag {
	case tagInt:
		n, err := parseInt(b)
		if err != nil {
			return err
		}
		return storeInt(p, reflect.Kind(k.codec.kind), n)
	case tagString:
		*(*string)(p) = string(b)
	case tagBytes:
		*(*[]byte)(p) = append(make([]byte, 0, len(b)), b...)
	case tagBool:
		if len(b) != 1 || b[0] > 1 {
			return errLength
		}
		*(*bool)(p) = b[0] == 1
	case tagFloat:
		if len(b) != 8 {
			return errLength
		}
		f := math.Float64frombits(binary.LittleEndian.Uint64(b))
		if reflect.Kind(k.codec.kind) == reflect.Float64 {
			*(*float64)(p) = f
		} else if g := float32(f); float64(g) == f || f != f {
			*(*float32)(p) = g
		} else {
			return errors.New("stored float does not fit")
		}
	case tagTime:
		t, err := parseTime(b)
		if err != nil {
			return err
		}
		*(*time.Time)(p) = t
	default:
		return k.parseEncoded(b, v)
	}
	return nil
}

// parseEncoded is apart, so that v stays on the stack of those with a fixed encoding.
func (k Key[T]) parseEncoded(b []byte, v *T) error {
	var fresh T
	if err := k.coder.decode(b, &fresh); err != nil {
		return err
	}
	*v = fresh
	return nil
}

// A wide is any Go integer: value, or, above MaxInt64, the unsigned one.
type wide struct {
	bits uint64
	big  bool // bits is unsigned and above MaxInt64
}

func loadInt(p unsafe.Pointer, kind reflect.Kind) wide {
	switch kind {
	case reflect.Int64:
		return wide{bits: *(*uint64)(p)}
	case reflect.Int8:
		return wide{bits: uint64(int64(*(*int8)(p)))}
	case reflect.Int16:
		return wide{bits: uint64(int64(*(*int16)(p)))}
	case reflect.Int32:
		return wide{bits: uint64(int64(*(*int32)(p)))}
	case reflect.Uint8:
		return wide{bits: uint64(*(*uint8)(p))}
	case reflect.Uint16:
		return wide{bits: uint64(*(*uint16)(p))}
	case reflect.Uint32:
		return wide{bits: uint64(*(*uint32)(p))}
	}
	n := *(*uint64)(p)
	return wide{n, n > math.MaxInt64}
}

func parseInt(b []byte) (wide, error) {
	switch {
	case len(b) == 8:
		return wide{bits: binary.LittleEndian.Uint64(b)}, nil
	case len(b) == 9 && b[8] == 0 && b[7] >= 0x80:
		return wide{binary.LittleEndian.Uint64(b), true}, nil
	}
	return wide{}, errLength
}

// storeInt stores n as the kind, if it fits.
func storeInt(p unsafe.Pointer, kind reflect.Kind, n wide) error {
	i := int64(n.bits)
	var low, high int64
	switch kind {
	case reflect.Int64:
		if n.big {
			return errRange
		}
		*(*int64)(p) = i
		return nil
	case reflect.Uint64:
		if !n.big && i < 0 {
			return errRange
		}
		*(*uint64)(p) = n.bits
		return nil
	case reflect.Int8:
		low, high = math.MinInt8, math.MaxInt8
	case reflect.Int16:
		low, high = math.MinInt16, math.MaxInt16
	case reflect.Int32:
		low, high = math.MinInt32, math.MaxInt32
	case reflect.Uint8:
		high = math.MaxUint8
	case reflect.Uint16:
		high = math.MaxUint16
	case reflect.Uint32:
		high = math.MaxUint32
	}
	if n.big || i < low || i > high {
		return errRange
	}
	switch kind {
	case reflect.Int8, reflect.Uint8:
		*(*uint8)(p) = uint8(i)
	case reflect.Int16, reflect.Uint16:
		*(*uint16)(p) = uint16(i)
	default:
		*(*uint32)(p) = uint32(i)
	}
	return nil
}

func putTime(b []byte, t time.Time) {
	_, offset := t.Zone()
	binary.LittleEndian.PutUint64(b, uint64(t.Unix()))
	binary.LittleEndian.PutUint32(b[8:], uint32(t.Nanosecond()))
	binary.LittleEndian.PutUint32(b[12:], uint32(int32(offset)))
}

func parseTime(b []byte) (time.Time, error) {
	if len(b) != 16 {
		return time.Time{}, errLength
	}
	nanos := binary.LittleEndian.Uint32(b[8:])
	offset := int32(binary.LittleEndian.Uint32(b[12:]))
	if nanos >= 1e9 || offset < -24*3600 || offset > 24*3600 {
		return time.Time{}, errRange
	}
	t := time.Unix(int64(binary.LittleEndian.Uint64(b)), int64(nanos))
	if offset == 0 {
		return t.UTC(), nil
	}
	return t.In(time.FixedZone("", int(offset))), nil
}
