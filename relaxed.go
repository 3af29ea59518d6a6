package sessile

import (
	"sync/atomic"
	"unsafe"
)

// A relaxedUint64 is written by one goroutine at a time and read by any. Its
// writer does not wait until others see what it stored, so a Store followed by a load
// of something else may appear in the other order; who needs that order, as Shutdown does,
// stops the world once.
type relaxedUint64 struct{ v atomic.Uint64 } // atomic for its alignment

// Load is for all.
func (r *relaxedUint64) Load() uint64 { return r.v.Load() }

// Own is for the writer.
func (r *relaxedUint64) Own() uint64 { return *(*uint64)(unsafe.Pointer(&r.v)) }

// A relaxedPointer is the same for a pointer.
type relaxedPointer[T any] struct{ p *T }

// Load is for all.
func (r *relaxedPointer[T]) Load() *T {
	return (*T)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&r.p))))
}

// Own is for the writer.
func (r *relaxedPointer[T]) Own() *T { return r.p }
