package gorillastore

import (
	"iter"
	"strings"

	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/contrib/latesave"
)

// valuePrefix begins the fields that are gorilla's values. The key, which may be of any type, follows as latesave
// encodes it.
const valuePrefix = "gorilla."

// A load is what a request knows of its session. It is found by the *sessions.Session, and like that one must not be used
// by two goroutines at once.
type load struct {
	grant sessile.Grant // the zero Grant: not stored yet
	token string        // for the cookie
	known *latesave.Snapshot
	names map[any]string // the fields of the keys: the same key may be encoded differently by a later process
	gone  bool           // ended by this request, or replaced before it began
}

func newLoad() *load {
	return &load{known: &latesave.Snapshot{MergeLists: true}, names: make(map[any]string)}
}

// read loads the values.
func (ld *load) read(tx sessile.Txn, values map[any]any, onError func(id string, key any, err error) error) error {
	for name, raw := range tx.All() {
		rest, ok := strings.CutPrefix(name, valuePrefix)
		if !ok {
			continue
		}
		key, err := latesave.Decode([]byte(rest))
		if err != nil {
			key = rest
		}
		var v any
		if err == nil {
			v, err = ld.known.Read(name, append([]byte(nil), raw...))
		}
		if err != nil {
			if onError != nil {
				if err := onError(tx.ID(), key, err); err != nil {
					return err
				}
			}
			continue
		}
		ld.names[key] = name
		values[key] = v
	}
	return nil
}

// fields yields the values under their fields' names. An error about a key ends it.
func (ld *load) fields(values map[any]any, err *error) iter.Seq2[string, any] {
	return func(yield func(string, any) bool) {
		for key, v := range values {
			name, ok := ld.names[key]
			if !ok {
				var b []byte
				if b, *err = latesave.Encode(key); *err != nil {
					return
				}
				name = valuePrefix + string(b)
				ld.names[key] = name
			}
			if !yield(name, v) {
				return
			}
		}
	}
}
