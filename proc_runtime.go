//go:build (amd64 || arm64) && !race

package sessile

import (
	"crypto/rand"
	"encoding/binary"
	"runtime"
	"unsafe"
)

// The runtime lends these two to packages outside of it (go.dev/issue/67401). Between
// them a goroutine stays on its processor, and nothing else runs there.

//go:linkname procPin runtime.procPin
func procPin() int

//go:linkname procUnpin runtime.procUnpin
func procUnpin()

// A procStates has a transaction state for each processor. A transaction that begins on a processor whose state
// is free takes it by making its generation odd, and frees it by making it even again,
// wherever it ends: two plain stores, where a sync.Pool costs some 6 ns.
type procStates struct{ states []*txnState }

func newProcStates(e *Engine) procStates {
	states := make([]*txnState, max(runtime.GOMAXPROCS(0), runtime.NumCPU()))
	for i := range states {
		states[i] = &txnState{e: e}
	}
	return procStates{states}
}

func (p *procStates) each(fn func(*txnState)) {
	for _, st := range p.states {
		fn(st)
	}
}

// take returns a free state, whose new generation makes the handles of this use valid: this processor's, or one of the
// pool if that is in use.
func (p *txnStates) take() *txnState {
	if i := uint(procPin()); i < uint(len(p.proc.states)) {
		if st := p.proc.states[i]; st.gen.Load()&1 == 0 {
			st.gen.Next()
			procUnpin()
			return st
		}
	}
	procUnpin()
	return p.takePooled()
}

// memhash is the runtime's seeded hash, which hash/maphash reaches by two more calls.
//
//go:noescape
//go:linkname memhash runtime.memhash
func memhash(p unsafe.Pointer, seed, n uintptr) uintptr

type hashSeed = uint64

// hashID hashes an id that is not empty.
func hashID(seed uint64, id string) uint64 {
	return uint64(memhash(unsafe.Pointer(unsafe.StringData(id)), uintptr(seed), uintptr(len(id))))
}

func newSeed() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.LittleEndian.Uint64(b[:])
}
