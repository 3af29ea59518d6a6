package main

import (
	"math"
	"math/rand/v2"
)

// A zipf draws ranks with the frequencies of YCSB: rank r, counted from 0, with a probability
// proportional to 1/(r+1)^theta, for a theta below 1, which math/rand's Zipf does not offer. The method is
// that of Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (SIGMOD 1994), as
// in YCSB's ZipfianGenerator: exact for the first two ranks, close to it for the others.
type zipf struct {
	n      float64
	theta  float64
	alpha  float64
	zetaN  float64
	eta    float64
	second float64 // where the second rank ends
}

// ycsbTheta is YCSB's constant.
const ycsbTheta = 0.99

// newZipf returns a generator of the ranks 0 to n-1. It takes time in proportion to n.
func newZipf(n int, theta float64) *zipf {
	z := &zipf{n: float64(n), theta: theta, alpha: 1 / (1 - theta), zetaN: zeta(n, theta), second: 1 + math.Pow(0.5, theta)}
	z.eta = (1 - math.Pow(2/z.n, 1-theta)) / (1 - zeta(2, theta)/z.zetaN)
	return z
}

// zeta is the sum of 1/i^theta over 1 to n.
func zeta(n int, theta float64) (sum float64) {
	for i := 1; i <= n; i++ {
		sum += math.Pow(float64(i), -theta)
	}
	return sum
}

// next returns a rank.
func (z *zipf) next(r *rand.Rand) int {
	u := r.Float64()
	switch uz := u * z.zetaN; {
	case uz < 1:
		return 0
	case uz < z.second:
		return min(1, int(z.n)-1)
	}
	return min(int(z.n)-1, int(z.n*math.Pow(z.eta*u-z.eta+1, z.alpha)))
}

// probability returns that of a rank.
func (z *zipf) probability(rank int) float64 {
	return math.Pow(float64(rank+1), -z.theta) / z.zetaN
}
