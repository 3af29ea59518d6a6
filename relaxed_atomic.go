//go:build !amd64 || race

package sessile

import (
	"sync/atomic"
	"unsafe"
)

// Store is for the writer.
func (r *relaxedUint64) Store(v uint64) { r.v.Store(v) }

// Next adds one; for the writer.
func (r *relaxedUint64) Next() { r.v.Store(r.Own() + 1) }

// Store is for the writer.
func (r *relaxedUint32) Store(v uint32) { r.v.Store(v) }

// Store is for the writer.
func (r *relaxedPointer[T]) Store(p *T) {
	atomic.StorePointer((*unsafe.Pointer)(unsafe.Pointer(&r.p)), unsafe.Pointer(p))
}
