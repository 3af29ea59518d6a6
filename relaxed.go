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

// A relaxedInt64 is the same, signed.
type relaxedInt64 struct{ u relaxedUint64 }

// Load is for all.
func (r *relaxedInt64) Load() int64 { return int64(r.u.Load()) }

// Store is for the writer.
func (r *relaxedInt64) Store(v int64) { r.u.Store(uint64(v)) }

// A relaxedUint32 is the same for 32 bits. Who takes it by CompareAndSwap becomes its writer.
type relaxedUint32 struct{ v atomic.Uint32 }

// Load is for all.
func (r *relaxedUint32) Load() uint32 { return r.v.Load() }

// CompareAndSwap is for all, with an old value that no writer's Store races with.
func (r *relaxedUint32) CompareAndSwap(old, new uint32) bool { return r.v.CompareAndSwap(old, new) }

// A relaxedPointer is the same for a pointer.
type relaxedPointer[T any] struct{ p *T }

// Load is for all.
func (r *relaxedPointer[T]) Load() *T {
	return (*T)(atomic.LoadPointer((*unsafe.Pointer)(unsafe.Pointer(&r.p))))
}

// Own is for the writer.
func (r *relaxedPointer[T]) Own() *T { return r.p }
