//go:build amd64 && !race

package sessile

import "unsafe"

// Store is for the writer. On amd64 a plain store is a release store already; the one of
// sync/atomic is a full fence besides (XCHG), behind which the cache misses of
// the next call cannot begin while those of this one last.
func (r *relaxedUint64) Store(v uint64) { *(*uint64)(unsafe.Pointer(&r.v)) = v }

// Next adds one; for the writer.
func (r *relaxedUint64) Next() { *(*uint64)(unsafe.Pointer(&r.v))++ }

// Store is for the writer.
func (r *relaxedUint32) Store(v uint32) { *(*uint32)(unsafe.Pointer(&r.v)) = v }

// Store is for the writer.
func (r *relaxedPointer[T]) Store(p *T) { r.p = p }
