//go:build !race

package sessile_test

const raceEnabled = false
