package main

import (
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestSample(t *testing.T) {
	rounds := []float64{5, 1, 3}
	assert.Equal(t, Sample{Rounds: rounds, Median: 3, Min: 1, Max: 5}, sampleOf(rounds))
	assert.Equal(t, []float64{5, 1, 3}, rounds, "the order of the rounds is kept")
	assert.InDelta(t, 2.5, sampleOf([]float64{4, 1, 2, 3}).Median, 0)
	assert.Equal(t, Sample{}, sampleOf(nil))
}

// A ratio is that of each round, not of the medians.
func TestRatios(t *testing.T) {
	r := ratios([]float64{10, 20, 90}, []float64{1, 20, 30})
	assert.Equal(t, []float64{10, 1, 3}, r.Rounds)
	assert.InDelta(t, 3, r.Median, 0)
	assert.Empty(t, ratios([]float64{1}, []float64{0}).Rounds, "nothing is divided by 0")
	assert.Len(t, ratios([]float64{1, 2, 3}, []float64{1, 2}).Rounds, 2)
}
