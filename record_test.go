package sessile

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// randomChanges returns sorted changes located in base.
func randomChanges(r *rand.Rand, base *record) (changes []change) {
	for i := range 12 {
		if r.Intn(3) > 0 {
			continue
		}
		c := change{key: fmt.Sprintf("k%02d", i)}
		if r.Intn(4) == 0 {
			c.del = true
		} else {
			c.value = bytes.Repeat([]byte{byte(r.Intn(256))}, r.Intn(20))
		}
		c.locate(base)
		changes = append(changes, c)
	}
	return changes
}

// A record is a sorted map, by whatever way a change is applied to it, and so
// is what the log and the disk make of it.
func TestRecordAgainstAMap(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	model := map[string]string{}
	var rec, redone *record
	for i := range 3000 {
		changes := randomChanges(r, rec)
		log := appendDelta(nil, deltaChange, "id", uint64(i), int64(i), changes)
		if rec != nil && fits(changes) {
			rec.overwrite(changes)
		} else {
			rec = merge(rec, changes)
		}
		for _, c := range changes {
			delete(model, c.key)
			if !c.del {
				model[c.key] = string(c.value)
			}
		}
		got := map[string]string{}
		var keys []string
		for key, value, ok := rec.next(""); ok; key, value, ok = rec.next(key) {
			got[key] = string(value)
			keys = append(keys, key)
		}
		require.Equal(t, model, got)
		require.True(t, slices.IsSorted(keys))
		require.EqualValues(t, len(model), rec.fields)
		require.NoError(t, rec.verify())

		d, rest, err := decodeDelta(log)
		require.NoError(t, err)
		require.Empty(t, rest)
		decoded, err := d.changesOf(redone, nil)
		require.NoError(t, err)
		redone = merge(redone, decoded)
		require.Equal(t, rec.data(), redone.data(), "redo")
		decoded, err = d.changesOf(redone, nil)
		require.NoError(t, err)
		require.Equal(t, rec.data(), merge(redone, decoded).data(), "redo twice")
	}
}

func TestOverwriteDelta(t *testing.T) {
	base := merge(nil, []change{{key: "a", value: []byte("1")}, {key: "b", value: []byte("22")}})
	stage := func(kv ...string) (out []change) {
		for i := 0; i < len(kv); i += 2 {
			c := change{key: kv[i], value: []byte(kv[i+1])}
			c.locate(base)
			out = append(out, c)
		}
		return out
	}
	log := appendDelta(nil, deltaChange, "id", 7, 1, stage("a", "x", "b", "yy"))
	for _, other := range [][]change{stage("a", "x"), stage("a", "x", "b", "y"), stage("a", "x", "c", "yy"), stage("a", "x", "b", "yy", "c", "")} {
		require.False(t, overwriteDelta(bytes.Clone(log), 2, 8, 2, other))
	}
	require.True(t, overwriteDelta(log, 2, 8, 2, stage("a", "p", "b", "qq")))
	require.Equal(t, appendDelta(nil, deltaChange, "id", 8, 2, stage("a", "p", "b", "qq")), log)
	require.False(t, overwriteDelta(appendDelta(nil, deltaCreate, "id", 7, 1, stage("a", "x")), 2, 8, 2, stage("a", "y")))
}

// Ids whose hashes collide are different sessions all the same.
func TestCollidingIDs(t *testing.T) {
	sh := newShard(0, 1)
	ids := []string{"a", "b", strings.Repeat("long", 20), "d"}
	objects := map[string]*session{}
	for _, id := range ids {
		s, added := sh.findOrAdd(7, id, newSession(id, absent))
		require.True(t, added)
		require.Equal(t, id, s.id())
		objects[id] = s
		_, added = sh.findOrAdd(7, id, newSession(id, absent))
		require.False(t, added)
	}
	for _, gone := range []string{"b", "d", "a", ids[2]} {
		for id, s := range objects {
			require.Same(t, s, sh.find(7, id))
		}
		sh.remove(7, objects[gone])
		delete(objects, gone)
		require.Nil(t, sh.find(7, gone))
	}
	require.Zero(t, sh.sessions.Size())
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add(merge(nil, []change{{key: "a", value: []byte("1")}}).appendDisk(nil, 5))
	f.Add([]byte{recordFormat})
	cut := merge(nil, []change{{key: "a", value: []byte("12345678")}}).appendDisk(nil, 5)
	f.Add(cut[:len(cut)-1])
	f.Fuzz(func(t *testing.T, b []byte) {
		var (
			r    *record
			seen int64
			err  error
		)
		if n := allocated(func() { r, seen, err = decodeRecord(b, 1) }); n > 1<<20+100*uint64(len(b)) {
			t.Fatalf("%d bytes made the decoder allocate %d", len(b), n)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(r.appendDisk(nil, seen), b) {
			t.Fatal("what was decoded is not what it was decoded from")
		}
		r.expires(seen, newLifespan(1, 1))
		r.user()
		for key, _, ok := r.next(""); ok; key, _, ok = r.next(key) {
			r.get(key)
		}
		v, _ := r.get(keyTokens)
		decodeVerifiers(v)
	})
}

func FuzzDecodeDelta(f *testing.F) {
	f.Add(appendDelta(nil, deltaCreate, "id", 1, 2, []change{{key: "a", value: []byte("1")}}))
	f.Add(appendDelta(nil, deltaEnd, "id", 1, 2, nil))
	cut := appendDelta(nil, deltaCreate, "id", 1, 2, []change{{key: "a", value: []byte("12345678")}})
	cut = cut[:len(cut)-1]
	binary.LittleEndian.PutUint32(cut, uint32(len(cut)))
	f.Add(cut)
	f.Fuzz(func(t *testing.T, b []byte) {
		n := allocated(func() {
			var r *record
			for rest := b; len(rest) > 0; {
				var d delta
				var err error
				if d, rest, err = decodeDelta(rest); err != nil {
					return
				}
				changes, err := d.changesOf(r, nil)
				if err != nil {
					return
				}
				r = merge(r, changes)
			}
		})
		if square := uint64(len(b)) * uint64(len(b)); n > 1<<20+100*square { // each delta may copy the record
			t.Fatalf("%d bytes made the decoder allocate %d", len(b), n)
		}
	})
}

// others are texts of the length of text that differ from it in one byte.
func others(text string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range len(text) {
			other := []byte(text)
			other[i] ^= 1
			if !yield(string(other)) {
				return
			}
		}
	}
}

func TestKeysAreComparedWhole(t *testing.T) {
	for n := 1; n <= MaxKeyLen; n++ {
		key := strings.Repeat("k", n)
		for other := range others(key) {
			r := merge(nil, []change{{key: other, value: []byte("wrong")}})
			_, ok := r.get(key)
			require.False(t, ok, "%q taken for %q", other, key)
			v, ok := merge(r, []change{{key: key, value: []byte("right")}}).get(key)
			require.True(t, ok && string(v) == "right", "%q beside %q: %q, %v", key, other, v, ok)
		}
	}
}

func TestIDsAreComparedWhole(t *testing.T) {
	for n := 1; n <= 2*inlineID; n++ {
		id := strings.Repeat("i", n)
		s := newSession(id, live)
		require.True(t, s.isID(strings.Clone(id)))
		require.False(t, s.isID(id[1:]))
		require.False(t, s.isID(id+"i"))
		for other := range others(id) {
			require.False(t, s.isID(other), "%q taken for %q", other, id)
		}
	}
}
