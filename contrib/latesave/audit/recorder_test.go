package audit_test

import (
	"fmt"
	"maps"
	"sync"
	"testing"

	"github.com/sessile-go/sessile/contrib/latesave/audit"
	"github.com/stretchr/testify/require"
)

func values(kv ...string) audit.Values {
	m := map[string]any{}
	for n := 0; n < len(kv); n += 2 {
		m[kv[n]] = kv[n+1]
	}
	return audit.Digest(maps.All(m))
}

// Where the order in the store is not known, nothing is counted.
func TestUncertainOrder(t *testing.T) {
	r := audit.NewRecorder(audit.Options{})
	r.Saved(r.Saving(), "s", nil, values("a", "1"))

	// A load that ends while another request's save is under way may have seen it or not.
	load := r.Loaded(r.Now(), values("a", "1"))
	other := r.Saving()
	late := r.Loaded(r.Now(), values("a", "1"))
	r.Saved(other, "s", load, values("a", "2"))
	r.Saved(r.Saving(), "s", late, values("a", "1", "b", "1"))
	require.Zero(t, r.Stats().Lost())

	// A save that begins before a deletion has ended may be the earlier one.
	seq := r.Saving()
	r.Deleted("s")
	r.Saved(seq, "s", load, values("a", "1"))
	require.Zero(t, r.Stats().Revived)
	r.Saved(r.Saving(), "s", load, values("a", "1"))
	require.Equal(t, uint64(1), r.Stats().Revived)
}

func TestCounts(t *testing.T) {
	r := audit.NewRecorder(audit.Options{})
	r.Saved(r.Saving(), "s", nil, values("a", "1", "b", "1"))
	one, two, three := r.Loaded(r.Now(), values("a", "1", "b", "1")), r.Loaded(r.Now(), values("a", "1", "b", "1")), r.Loaded(r.Now(), values("a", "1", "b", "1"))
	r.Saved(r.Saving(), "s", one, values("a", "2", "c", "1")) // changes a, removes b, adds c
	two = r.Saved(r.Saving(), "s", two, values("a", "3", "b", "1"))
	require.Equal(t, uint64(2), r.Stats().Reverted, "b is back, c is gone")
	require.Equal(t, uint64(1), r.Stats().Conflicting, "a")
	r.Saved(r.Saving(), "s", three, values("a", "1", "b", "1"))
	require.Equal(t, uint64(3), r.Stats().Reverted, "a again; the first one's changes are not lost twice")
	r.Saved(r.Saving(), "s", two, values("a", "3", "b", "1", "d", "1"))
	require.Equal(t, uint64(3), r.Stats().Reverted, "the third one changed nothing")
	require.Equal(t, uint64(1), r.Stats().Conflicting)
	require.Equal(t, uint64(4), r.Stats().Lost())
}

func TestMemoryIsBounded(t *testing.T) {
	const most = 1000
	r := audit.NewRecorder(audit.Options{MaxKeys: most})
	for n := range 5 * most {
		id := fmt.Sprint(n)
		r.Saved(r.Saving(), id, nil, values("a", "1"))
		if n%2 == 0 {
			r.Deleted(id)
		}
		require.LessOrEqual(t, r.Stats().Sessions, most)
	}
	require.Greater(t, r.Stats().Sessions, most/3)
	require.Positive(t, r.Stats().Forgotten)

	// One session of more keys than there may be is not remembered at all.
	big := map[string]any{}
	for n := range most + 1 {
		big[fmt.Sprint(n)] = n
	}
	r.Saved(r.Saving(), "big", nil, audit.Digest(maps.All(big)))
	require.Zero(t, r.Stats().Sessions)
	r.Saved(r.Saving(), "small", nil, values("a", "1"))
	require.Equal(t, 1, r.Stats().Sessions)
}

func TestConcurrentUse(t *testing.T) {
	r := audit.NewRecorder(audit.Options{MaxKeys: 100})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for n := range 500 {
				id := fmt.Sprint(n % 10)
				load := r.Loaded(r.Now(), values("a", "1"))
				load = r.Saved(r.Saving(), id, load, values("a", fmt.Sprint(g)))
				r.Saved(r.Saving(), id, load, values("b", "1"))
				r.Deleted(id)
				r.Stats()
			}
		})
	}
	wg.Wait()
	require.Equal(t, uint64(8*500), r.Stats().Loads)
	require.Equal(t, uint64(2*8*500), r.Stats().Saves)
}
