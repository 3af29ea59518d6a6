package sessile

import (
	"runtime"
	"sync"
)

// A latch is a mutex for what takes nanoseconds. Beside a [sync.Mutex] its release is a plain
// store, which saves each commit a locked instruction. It is not fair: of those that wait one
// tries, and the others sleep behind it. Nothing is waited for while it is held.
type latch struct {
	held relaxedUint32
	line sync.Mutex // of those that wait
}

// Lock takes the latch.
func (l *latch) Lock() {
	if !l.held.CompareAndSwap(0, 1) {
		l.wait()
	}
}

// Unlock releases it.
func (l *latch) Unlock() { l.held.Store(0) }

// latchSpins is how often a waiter tries before it lets other goroutines run between tries. It never
// sleeps: in a synctest bubble that would be taken for having nothing left to do, and elsewhere the holder is
// off its processor for a moment at most.
const latchSpins = 100

func (l *latch) wait() {
	l.line.Lock()
	defer l.line.Unlock()
	for i := 0; ; i++ {
		if l.held.Load() == 0 && l.held.CompareAndSwap(0, 1) {
			return
		}
		if i >= latchSpins {
			runtime.Gosched()
		}
	}
}
