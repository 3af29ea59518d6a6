package latesave

import (
	"bytes"
	"fmt"
	"iter"
	"slices"

	"github.com/sessile-go/sessile"
)

// A Snapshot is what a request knows of a session's fields: as it loaded them, or as it last saved them. The zero Snapshot
// knows of none.
type Snapshot struct {
	// MergeLists makes a change of a []any one of its items: those that the request added are added to the list as it is
	// by then, those that it removed are removed. Otherwise the list is a value like any other.
	MergeLists bool

	fields map[string]known
}

// known is one field. Its list is kept by items.
type known struct {
	raw     []byte
	digest  uint64
	list    bool
	items   [][]byte
	digests []uint64
	foreign bool // cannot be decoded; the request has not seen it
}

// Read remembers a field that was loaded, and returns its value. A field that cannot be decoded is remembered as one that
// the request has not seen: that it does not save it is no deletion. raw is kept, and must not be changed.
func (s *Snapshot) Read(key string, raw []byte) (any, error) {
	if s.fields == nil {
		s.fields = make(map[string]known)
	}
	v, err := Decode(raw)
	if err != nil {
		s.fields[key] = known{raw: raw, foreign: true}
		return nil, err
	}
	k := known{raw: raw, digest: Digest(v)}
	if list, ok := v.([]any); ok && s.MergeLists {
		k.list = true
		if k.items, err = splitList(raw[1:]); err != nil {
			return nil, err
		}
		for _, item := range list {
			k.digests = append(k.digests, Digest(item))
		}
	}
	s.fields[key] = k
	return v, nil
}

// Fields yields the fields known, encoded, without those that could not be decoded.
func (s *Snapshot) Fields() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for key, k := range s.fields {
			if !k.foreign && !yield(key, k.raw) {
				return
			}
		}
	}
}

// Changes are what a request changed.
type Changes struct {
	// After is what the request knows when the changes are made.
	After *Snapshot

	// Kept is how many fields it left as they were, Removed how many it took away.
	Kept, Removed int

	edits []edit
}

// An edit is the change of one field: to a value, to nothing, or of a list's items.
type edit struct {
	key       string
	value     []byte // nil: none
	list      bool
	drop, add [][]byte
}

// Diff compares what the request knew with the values that it wants to save. It fails for a value that cannot be encoded.
func (s *Snapshot) Diff(values iter.Seq2[string, any]) (*Changes, error) {
	c := &Changes{After: &Snapshot{MergeLists: s.MergeLists, fields: make(map[string]known, len(s.fields))}}
	for key, v := range values {
		old, had := s.fields[key]
		now := known{digest: Digest(v)}
		if had && !old.foreign && old.digest == now.digest {
			c.After.fields[key] = old
			c.Kept++
			continue
		}
		list, isList := v.([]any)
		if isList && s.MergeLists && (!had || old.list) {
			e, now, err := old.editTo(list)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", key, err)
			}
			e.key = key
			c.edits = append(c.edits, e)
			c.After.fields[key] = now
			continue
		}
		var err error
		if now.raw, err = Encode(v); err != nil {
			return nil, fmt.Errorf("%q: %w", key, err)
		}
		c.edits = append(c.edits, edit{key: key, value: now.raw})
		c.After.fields[key] = now
	}
	for key, old := range s.fields {
		if _, kept := c.After.fields[key]; kept {
			continue
		}
		if old.foreign {
			c.After.fields[key] = old
			continue
		}
		c.edits = append(c.edits, edit{key: key, list: old.list, drop: old.items})
		c.Removed++
	}
	return c, nil
}

// editTo returns the change of a list's items: those after what the lists have in common at their beginnings.
func (k known) editTo(list []any) (edit, known, error) {
	now := known{list: true, digest: Digest(any(list))}
	same := 0
	for i, item := range list {
		d := Digest(item)
		now.digests = append(now.digests, d)
		if same == i && i < len(k.digests) && k.digests[i] == d {
			now.items = append(now.items, k.items[i])
			same++
			continue
		}
		raw, err := Encode(item)
		if err != nil {
			return edit{}, known{}, err
		}
		now.items = append(now.items, raw)
	}
	now.raw = encodeList(now.items)
	return edit{list: true, value: now.raw, drop: k.items[same:], add: now.items[same:]}, now, nil
}

// Empty reports whether nothing was changed.
func (c *Changes) Empty() bool { return len(c.edits) == 0 }

// Apply stages the changes, on the fields as they are now. The errors are those of [sessile.Txn.Set].
func (c *Changes) Apply(tx sessile.Txn) error {
	for _, e := range c.edits {
		value, err := e.value, error(nil)
		if e.list {
			value, err = e.merged(tx)
		}
		switch {
		case err != nil:
		case value == nil:
			err = tx.Delete(e.key)
		default:
			err = tx.Set(e.key, value)
		}
		if err != nil {
			return fmt.Errorf("%q: %w", e.key, err)
		}
	}
	return nil
}

// merged returns the list as it is to be, nil for none.
func (e edit) merged(tx sessile.Txn) ([]byte, error) {
	raw, ok := tx.Get(e.key)
	if !ok && e.value == nil {
		return nil, nil
	}
	var items [][]byte
	if ok {
		if len(raw) == 0 || raw[0] != tagList { // another request made something else of it
			return e.value, nil
		}
		var err error
		if items, err = splitList(raw[1:]); err != nil {
			return e.value, nil // damaged, so the last write wins
		}
	}
	for _, gone := range e.drop {
		if i := slices.IndexFunc(items, func(item []byte) bool { return bytes.Equal(item, gone) }); i >= 0 {
			items = slices.Delete(items, i, i+1)
		}
	}
	items = append(items, e.add...)
	if len(items) == 0 && e.value == nil {
		return nil, nil
	}
	return encodeList(items), nil
}
