package sessile

import (
	"encoding/binary"
	"errors"
	"runtime/metrics"
	"testing"

	"github.com/sessile-go/sessile/internal/store"
)

// allocated returns how many bytes fn allocates, large objects exactly.
func allocated(fn func()) uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	before := sample[0].Value.Uint64()
	fn()
	metrics.Read(sample)
	return sample[0].Value.Uint64() - before
}

// Whatever the log holds, Open takes it whole or says that it is corrupt; it
// asks for no more memory than the log has bytes; and what it has taken can be opened again.
func FuzzLogChunk(f *testing.F) {
	header := func(parts uint32) []byte {
		b := binary.LittleEndian.AppendUint32([]byte{chunkFormat}, parts)
		return append(b, make([]byte, chunkHeader-len(b))...)
	}
	f.Add(header(1), []byte{})
	f.Add(appendDelta(header(1), deltaCreate, "b", 1, 2, []change{{key: keyUser, value: []byte("12345678ann")}}), []byte{})
	f.Add(appendDelta(header(1), deltaChange, "a", 3, 4, []change{{key: "k", value: []byte("v")}, {key: "x"}}), header(0))
	f.Add(appendDelta(header(0), deltaTouch, "a", 3, 4, nil), appendDelta(header(2), deltaEnd, "a", 1, 2, nil))
	f.Add([]byte{chunkFormat}, []byte{})
	f.Add(append([]byte{chunkFormat + 1}, header(1)[1:]...), []byte{})
	opt := Options{Dir: "in memory"}.withDefaults()
	rec := merge(nil, []change{{key: keyUser, value: []byte("12345678bob")}, {key: "k", value: []byte("0")}})
	f.Fuzz(func(t *testing.T, one, two []byte) {
		disk := store.NewMem()
		life := func(work func(p *persister)) (err error) {
			st, err := disk.Open()
			if err != nil {
				t.Fatal(err)
			}
			p, _, err := newPersister(opt, st)
			if err == nil {
				work(p)
			}
			return errors.Join(err, st.Close())
		}
		err := life(func(p *persister) {
			ops := []store.Op{
				{Key: recordKey("a"), Value: p.sealRecord(recordKey("a"), 1, rec.appendDisk(nil, 5))},
				{Key: p.indexKey("bob", "a"), Value: []byte{}},
			}
			for i, chunk := range [][]byte{one, two} {
				if key := chunkKey(1, 1, uint32(i)); len(chunk) > 0 {
					ops = append(ops, store.Op{Key: key, Value: p.seal.Seal(nil, chunk, key)})
				}
			}
			if err := p.store.Commit(ops); err != nil {
				t.Fatal(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		bytes := allocated(func() { err = life(func(*persister) {}) })
		if limit := 1<<20 + 100*uint64(len(one)+len(two)); bytes > limit {
			t.Fatalf("a log of %d bytes made Open allocate %d", len(one)+len(two), bytes)
		}
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		err = life(func(p *persister) {
			err := p.store.Scan([]byte{'r'}, nil, false, func(k, v []byte) bool {
				if _, _, err := p.openRecord(k, v); err != nil {
					t.Fatal(err)
				}
				return true
			})
			if err != nil {
				t.Fatal(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
