package sessile

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime/metrics"
	"testing"

	"github.com/sessile-go/sessile/internal/store"
	"github.com/stretchr/testify/require"
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
			var log []store.Op
			for i, chunk := range [][]byte{one, two} {
				if key := chunkKey(1, 1, uint32(i)); len(chunk) > 0 {
					log = append(log, store.Op{Key: key, Value: p.seal.Seal(nil, chunk, key)})
				}
			}
			if err := errors.Join(p.store.Commit(ops), p.store.Append(log)); err != nil {
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
		if err := checkpointed(disk, opt); err != nil {
			t.Fatal(err)
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

// checkpointed lets an engine recover the disk and closes it in good order, so that records are written.
func checkpointed(disk *store.Mem, opt Options) error {
	st, err := disk.Open()
	if err != nil {
		return err
	}
	e, err := openWith(opt, st)
	if err != nil {
		return err
	}
	return e.Close()
}

const windowOfTests = 8 << 20

// recovered opens a disk with these keys and this log, one group of the deltas each, and returns what it holds then.
func recovered(t *testing.T, keys func(p *persister) []store.Op, groups ...[]byte) (records map[string]*record, index []string) {
	opt := Options{Dir: "in memory", MaxMemory: 4 * windowOfTests}.withDefaults()
	disk := store.NewMem()
	st, err := disk.Open()
	require.NoError(t, err)
	p, _, err := newPersister(opt, st)
	require.NoError(t, err)
	require.NoError(t, st.Commit(keys(p)))
	for i, deltas := range groups {
		chunk := binary.LittleEndian.AppendUint32([]byte{chunkFormat}, 1)
		chunk = append(append(chunk, make([]byte, chunkHeader-len(chunk))...), deltas...)
		key := chunkKey(1, uint64(i+1), 0)
		require.NoError(t, st.Append([]store.Op{{Key: key, Value: p.seal.Seal(nil, chunk, key)}}))
	}
	require.NoError(t, st.Close())
	require.NoError(t, checkpointed(disk, opt))
	st, err = disk.Open()
	require.NoError(t, err)
	p, _, err = newPersister(opt, st)
	require.NoError(t, err)
	records = make(map[string]*record)
	require.NoError(t, st.Scan([]byte{'r'}, nil, false, func(k, v []byte) bool {
		r, _, err := p.openRecord(k, v)
		require.NoError(t, err)
		records[string(k[1:])] = r
		return true
	}))
	require.NoError(t, st.Scan([]byte{'u'}, nil, true, func(k, _ []byte) bool {
		index = append(index, string(k[3:]))
		return true
	}))
	return records, index
}

func userField(user string) change { return change{key: keyUser, value: []byte("12345678" + user)} }

// A creation replaces what a checkpoint that was cut short wrote of later states, index entries included.
func TestRecoverCreated(t *testing.T) {
	written := func(users ...string) func(p *persister) []store.Op {
		return func(p *persister) (ops []store.Op) {
			for i, user := range users {
				id := string(rune('a' + i))
				fields := []change{{key: "k", value: []byte("later")}}
				if user != "" {
					fields = append([]change{userField(user)}, fields...)
					ops = append(ops, store.Op{Key: p.indexKey(user, id), Value: []byte{}})
				}
				ops = append(ops, store.Op{Key: recordKey(id), Value: p.sealRecord(recordKey(id), 9, merge(nil, fields).appendDisk(nil, 5))})
			}
			return ops
		}
	}
	log := appendDelta(nil, deltaCreate, "a", 1, 2, []change{userField("ann")})
	log = appendDelta(log, deltaCreate, "b", 2, 2, nil)
	log = appendDelta(log, deltaEnd, "b", 3, 3, nil)
	for _, users := range [][]string{{"bob", "bob"}, {"ann", "ann"}, {"", "bob"}, {"", ""}, {}} {
		records, index := recovered(t, written(users...), log)
		require.Len(t, records, 1, users)
		require.EqualValues(t, 1, records["a"].version)
		_, there := records["a"].get("k")
		require.False(t, there)
		require.Equal(t, []string{"anna"}, index, users)
	}
}

// What is folded while the window before is written goes on from the states in that one.
func TestRecoverWindows(t *testing.T) {
	const each = 800 << 10
	var groups [][]byte
	value := make([]byte, each)
	for i := range 3 * windowOfTests / each {
		id := fmt.Sprintf("session%03d", i)
		g := appendDelta(nil, deltaCreate, id, 1, 2, []change{userField("ann"), {key: "v", value: value}})
		if i == 0 {
			g = appendDelta(g, deltaCreate, "hot", 1, 2, []change{{key: "n", value: []byte{0}}})
			g = appendDelta(g, deltaCreate, "ended", 1, 2, []change{userField("ann")})
		}
		change := []change{userField(fmt.Sprint("user", i)), {key: fmt.Sprint("field", i), value: []byte{1}}, {key: "n", value: []byte{byte(i)}}}
		g = appendDelta(g, deltaChange, "hot", uint64(i+2), int64(i+3), change)
		if i == windowOfTests/each+3 {
			g = appendDelta(g, deltaEnd, "ended", 2, 3, nil)
		}
		groups = append(groups, g)
	}
	records, index := recovered(t, func(*persister) []store.Op {
		return []store.Op{{Key: []byte("x"), Value: []byte{}}}
	}, groups...)
	require.Len(t, records, len(groups)+1)
	require.Len(t, index, len(groups)+1)
	last := len(groups) - 1
	require.Contains(t, index, fmt.Sprint("user", last, "hot"))
	hot := records["hot"]
	require.EqualValues(t, last+2, hot.version)
	require.EqualValues(t, len(groups)+2, hot.fields)
	n, _ := hot.get("n")
	require.Equal(t, []byte{byte(last)}, n)
}

// A log that is of a later opening than the store knows of: the store has lost what was written last.
func TestLogOfAnUnknownOpening(t *testing.T) {
	opt := Options{Dir: "in memory"}.withDefaults()
	for epoch, want := range map[uint64]error{1: nil, 2: ErrCorrupt} {
		disk := store.NewMem()
		st, err := disk.Open()
		require.NoError(t, err)
		p, _, err := newPersister(opt, st)
		require.NoError(t, err)
		chunk := binary.LittleEndian.AppendUint32([]byte{chunkFormat}, 1)
		chunk = append(chunk, make([]byte, chunkHeader-len(chunk))...)
		key := chunkKey(epoch, 1, 0)
		require.NoError(t, st.Append([]store.Op{{Key: key, Value: p.seal.Seal(nil, chunk, key)}}))
		require.NoError(t, st.Close())
		for _, accept := range []bool{false, true} {
			st, err = disk.Open()
			require.NoError(t, err)
			opt.AcceptDataLoss = accept
			p, boot, err := newPersister(opt, st)
			require.NoError(t, st.Close())
			if accept {
				require.NoError(t, err)
				require.EqualValues(t, 3, p.epoch, "no version is given twice")
				require.EqualValues(t, 3, boot.epoch)
			} else {
				require.ErrorIs(t, err, want)
			}
		}
	}
}
