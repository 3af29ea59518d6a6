//go:build (!amd64 && !arm64) || race

package sessile

import "hash/maphash"

// A procStates is empty here: all states come from the pool.
type procStates struct{}

func newProcStates(*Engine) procStates { return procStates{} }

func (procStates) take() *txnState { return nil }

func (procStates) each(func(*txnState)) {}

type hashSeed = maphash.Seed

func hashID(seed maphash.Seed, id string) uint64 { return maphash.String(seed, id) }

func newSeed() maphash.Seed { return maphash.MakeSeed() }
