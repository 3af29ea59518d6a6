package main

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The frequencies of ranks are those of the distribution: exactly for the first two, within a few percent for
// the sums that decide how hot the hot ones are.
func TestZipfFrequencies(t *testing.T) {
	for _, n := range []int{1000, 100_000} {
		z := newZipf(n, ycsbTheta)
		r := rand.New(rand.NewPCG(1, 2))
		const draws = 2_000_000
		seen := make([]int, n)
		for range draws {
			seen[z.next(r)]++
		}
		share := func(ranks int) (want, got float64) {
			for i := range ranks {
				want += z.probability(i)
				got += float64(seen[i]) / draws
			}
			return want, got
		}
		assert.InEpsilon(t, z.probability(0), float64(seen[0])/draws, 0.01)
		assert.InEpsilon(t, z.probability(1), float64(seen[1])/draws, 0.02)
		for ranks, off := range map[int]float64{10: 0.06, 100: 0.04, n / 2: 0.02} { // the method itself is so far off
			want, got := share(ranks)
			assert.InEpsilon(t, want, got, off, "the first %d of %d", ranks, n)
		}
		whole, _ := share(n)
		assert.InDelta(t, 1, whole, 1e-9)
	}
}

func TestZipfOfFew(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for n := 1; n <= 5; n++ {
		z := newZipf(n, ycsbTheta)
		seen := make([]int, n)
		for range 10_000 {
			seen[z.next(r)]++ // panics out of range
		}
		for i, s := range seen {
			assert.Positive(t, s, "rank %d of %d", i, n)
		}
	}
}

// Uniform draws meet all, one meets one, and hot sessions of a zipf are spread over the indices.
func TestDrawers(t *testing.T) {
	const n = 1000
	for kind, check := range map[string]func([]int){
		"one": func(seen []int) { assert.Equal(t, 100_000, seen[0]) },
		"uniform": func(seen []int) {
			assert.Less(t, slices.Max(seen), 200)
			assert.Greater(t, slices.Min(seen), 50)
		},
		"zipf": func(seen []int) {
			hottest := slices.Index(seen, slices.Max(seen))
			assert.Greater(t, seen[hottest], 10_000)
			assert.NotZero(t, hottest, "ranks are not spread")
		},
	} {
		draw := drawer(kind, n, rand.New(rand.NewPCG(3, 4)))
		seen := make([]int, n)
		for range 100_000 {
			seen[draw()]++
		}
		check(seen)
	}
}

func TestAccesses(t *testing.T) {
	w := Workload{Sessions: 50, Callers: 4, Reads: 0.95}
	r := rand.New(rand.NewPCG(1, 1))
	seq := w.accesses(drawer("uniform", w.Sessions, r), r)
	reads := 0
	for _, a := range seq {
		require.Less(t, int(a&^isRead), w.Sessions)
		if a&isRead != 0 {
			reads++
		}
	}
	assert.InDelta(t, 0.95, float64(reads)/float64(len(seq)), 0.01)
}

// Ids are of one length, and none is made twice.
func TestIDs(t *testing.T) {
	seen := map[string]bool{}
	for i := range uint64(100_000) {
		for _, id := range []string{idOf(i), idOf(1<<48 | i)} {
			require.Len(t, id, 22)
			require.False(t, seen[id], i)
			seen[id] = true
		}
	}
}
