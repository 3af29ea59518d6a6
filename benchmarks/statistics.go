package main

import (
	"math"
	"slices"
)

// A Sample is what several rounds of one measurement gave.
type Sample struct {
	Rounds []float64 `json:"rounds"`
	Median float64   `json:"median"`
	Min    float64   `json:"min"`
	Max    float64   `json:"max"`
}

// sampleOf summarizes rounds. Without any, all is NaN-free zero.
func sampleOf(rounds []float64) Sample {
	s := Sample{Rounds: rounds}
	if len(rounds) == 0 {
		return s
	}
	sorted := slices.Sorted(slices.Values(rounds))
	s.Min, s.Max = sorted[0], sorted[len(sorted)-1]
	s.Median = median(sorted)
	return s
}

// median returns the middle of sorted values, or the mean of both middle ones.
func median(sorted []float64) float64 {
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// ratios divides round by round: rounds of one number ran side by side.
func ratios(over, under []float64) Sample {
	n := min(len(over), len(under))
	r := make([]float64, 0, n)
	for i := range n {
		if under[i] > 0 && !math.IsNaN(over[i]) {
			r = append(r, over[i]/under[i])
		}
	}
	return sampleOf(r)
}
