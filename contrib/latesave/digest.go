package latesave

import (
	"encoding"
	"encoding/binary"
	"encoding/gob"
	"hash/maphash"
	"math"
	"reflect"
	"sync/atomic"
)

// Encoded bytes do not say whether a value was changed: gob writes maps in random order, and numbers types by first use in
// the process. So values are compared by a hash of what gob would write of them: exported fields, through pointers, the
// entries of maps in no order, and the output of GobEncode or MarshalBinary where a type has them.

var (
	seed          = maphash.MakeSeed()
	gobEncoder    = reflect.TypeFor[gob.GobEncoder]()
	binaryEncoder = reflect.TypeFor[encoding.BinaryMarshaler]()
	incomparable  atomic.Uint64
)

// depthMax ends the walk through a value that contains itself, which gob cannot write.
const depthMax = 1000

// Digest returns a hash of a value, good in this process. Equal values have equal digests; values that gob can tell apart
// have, but for one chance in 2^64, different ones.
func Digest(v any) uint64 {
	h := digester{depth: 0}
	h.SetSeed(seed)
	h.value(reflect.ValueOf(&v).Elem())
	return h.Sum64()
}

type digester struct {
	maphash.Hash
	depth int
}

func (h *digester) uint64(n uint64) {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], n)
	_, _ = h.Write(b[:])
}

func (h *digester) string(s string) {
	h.uint64(uint64(len(s)))
	_, _ = h.WriteString(s)
}

// unequal makes the digest differ from every other one.
func (h *digester) unequal() { h.uint64(incomparable.Add(1)) }

func (h *digester) value(v reflect.Value) {
	if h.depth++; h.depth > depthMax {
		h.unequal()
		return
	}
	defer func() { h.depth-- }()
	switch v.Kind() {
	case reflect.Interface, reflect.Pointer:
		if v.IsNil() {
			h.uint64(0)
			return
		}
		h.uint64(1)
		if v.Kind() == reflect.Interface {
			t := v.Elem().Type()
			h.string(t.PkgPath())
			h.string(t.String())
		}
		h.value(v.Elem())
		return
	}
	if h.encoded(v) {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		if v.Bool() {
			h.uint64(1)
		} else {
			h.uint64(0)
		}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		h.uint64(uint64(v.Int()))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		h.uint64(v.Uint())
	case reflect.Float32, reflect.Float64:
		h.uint64(math.Float64bits(v.Float()))
	case reflect.Complex64, reflect.Complex128:
		h.uint64(math.Float64bits(real(v.Complex())))
		h.uint64(math.Float64bits(imag(v.Complex())))
	case reflect.String:
		h.string(v.String())
	default:
		h.composite(v)
	}
}

func (h *digester) composite(v reflect.Value) {
	switch v.Kind() {
	case reflect.Slice, reflect.Array:
		h.uint64(uint64(v.Len()))
		if v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8 {
			_, _ = h.Write(v.Bytes())
			return
		}
		for i := range v.Len() {
			h.value(v.Index(i))
		}
	case reflect.Map:
		h.uint64(uint64(v.Len()))
		var sum uint64
		for it := v.MapRange(); it.Next(); {
			entry := digester{depth: h.depth}
			entry.SetSeed(seed)
			entry.value(it.Key())
			entry.value(it.Value())
			sum += entry.Sum64()
		}
		h.uint64(sum)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				h.value(v.Field(i))
			}
		}
	default: // functions and channels, which gob leaves out
	}
}

// encoded writes what the type's own encoder makes of a value, as gob does.
func (h *digester) encoded(v reflect.Value) bool {
	t := v.Type()
	if t.PkgPath() == "" && t.Kind() != reflect.Struct {
		return false // has no methods
	}
	if p := reflect.PointerTo(t); !p.Implements(gobEncoder) && !p.Implements(binaryEncoder) {
		return false
	}
	if !v.CanAddr() {
		p := reflect.New(t)
		p.Elem().Set(v)
		v = p.Elem()
	}
	var b []byte
	var err error
	if e, ok := v.Addr().Interface().(gob.GobEncoder); ok {
		b, err = e.GobEncode()
	} else {
		b, err = v.Addr().Interface().(encoding.BinaryMarshaler).MarshalBinary()
	}
	if err != nil {
		h.unequal()
		return true
	}
	h.uint64(uint64(len(b)))
	_, _ = h.Write(b)
	return true
}
