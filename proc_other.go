//go:build (!amd64 && !arm64) || race

package sessile

import "hash/maphash"

// A procStates is empty here: all states come from the pool.
type procStates struct{}

func newProcStates(*Engine) procStates { return procStates{} }

func (procStates) each(func(*txnState)) {}

// take returns a free state, whose new generation makes the handles of this use valid.
func (p *txnStates) take() *txnState { return p.takePooled() }

type hashSeed = maphash.Seed

func hashID(seed maphash.Seed, id string) uint64 { return maphash.String(seed, id) }

func newSeed() maphash.Seed { return maphash.MakeSeed() }
