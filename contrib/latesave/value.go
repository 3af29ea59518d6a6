package latesave

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"fmt"
	"math"
	"time"
)

// A field is a tag byte and the value. The types that sessions mostly hold have encodings of their own, because a gob
// stream describes its types anew in each field. Everything else is gob, so its types are registered as
// the libraries' own encoders want it.
const (
	tagNil     = 'n'
	tagString  = 's'
	tagBytes   = 'b'
	tagTrue    = '1'
	tagFalse   = '0'
	tagInt     = 'i' // varint
	tagInt32   = 'j' // varint
	tagInt64   = 'k' // varint
	tagFloat64 = 'd' // 8 bytes, little-endian
	tagTime    = 't' // time.Time.MarshalBinary
	tagList    = 'l' // of []any: for each item its length, uvarint, and its field
	tagGob     = 'g' // of a box
)

// box lets gob encode an interface value, nil included.
type box struct{ V any }

// Encode returns the field for a value. Types that are not basic must be registered with gob.
func Encode(v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return []byte{tagNil}, nil
	case string:
		return append([]byte{tagString}, v...), nil
	case []byte:
		return append([]byte{tagBytes}, v...), nil
	case bool:
		if v {
			return []byte{tagTrue}, nil
		}
		return []byte{tagFalse}, nil
	case int:
		return binary.AppendVarint([]byte{tagInt}, int64(v)), nil
	case int32:
		return binary.AppendVarint([]byte{tagInt32}, int64(v)), nil
	case int64:
		return binary.AppendVarint([]byte{tagInt64}, v), nil
	case float64:
		return binary.LittleEndian.AppendUint64([]byte{tagFloat64}, math.Float64bits(v)), nil
	case time.Time:
		return v.AppendBinary([]byte{tagTime})
	case []any:
		items := make([][]byte, len(v))
		for i, item := range v {
			var err error
			if items[i], err = Encode(item); err != nil {
				return nil, err
			}
		}
		return encodeList(items), nil
	}
	b := bytes.NewBuffer([]byte{tagGob})
	if err := gob.NewEncoder(b).Encode(box{v}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Decode returns the value of a field.
func Decode(field []byte) (any, error) {
	if len(field) == 0 {
		return nil, fmt.Errorf("latesave: field is empty")
	}
	tag, b := field[0], field[1:]
	switch tag {
	case tagString:
		return string(b), nil
	case tagBytes:
		return append([]byte{}, b...), nil
	case tagInt, tagInt32, tagInt64:
		return decodeInt(tag, b)
	case tagFloat64:
		if len(b) == 8 {
			return math.Float64frombits(binary.LittleEndian.Uint64(b)), nil
		}
	case tagTime:
		var t time.Time
		err := t.UnmarshalBinary(b)
		return t, err
	case tagList:
		return decodeList(b)
	case tagGob:
		var v box
		err := gob.NewDecoder(bytes.NewReader(b)).Decode(&v)
		return v.V, err
	case tagNil, tagTrue, tagFalse:
		switch {
		case len(b) > 0:
		case tag == tagNil:
			return nil, nil
		default:
			return tag == tagTrue, nil
		}
	}
	return nil, fmt.Errorf("latesave: field of %d bytes with tag %q is damaged", len(field), tag)
}

func decodeInt(tag byte, b []byte) (any, error) {
	n, size := binary.Varint(b)
	switch {
	case size <= 0 || size != len(b):
	case tag == tagInt && int64(int(n)) == n:
		return int(n), nil
	case tag == tagInt32 && int64(int32(n)) == n:
		return int32(n), nil
	case tag == tagInt64:
		return n, nil
	}
	return nil, fmt.Errorf("latesave: integer of %d bytes is damaged", len(b))
}

func decodeList(b []byte) (any, error) {
	items, err := splitList(b)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(items))
	for i, item := range items {
		if list[i], err = Decode(item); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func encodeList(items [][]byte) []byte {
	b := []byte{tagList}
	for _, item := range items {
		b = append(binary.AppendUvarint(b, uint64(len(item))), item...)
	}
	return b
}

// splitList returns the fields of a list's items; b is the list without its tag.
func splitList(b []byte) (items [][]byte, err error) {
	for len(b) > 0 {
		n, size := binary.Uvarint(b)
		if size <= 0 || n > uint64(len(b)-size) {
			return nil, fmt.Errorf("latesave: list is damaged")
		}
		b = b[size:]
		items = append(items, b[:n])
		b = b[n:]
	}
	return items, nil
}
