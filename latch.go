package sessile

import (
	"runtime"
	"sync"
	"time"
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

// How long a waiter tries before it lets other goroutines run, and before it sleeps: the
// holder was then taken off its processor.
const (
	latchSpins  = 100
	latchYields = 100
	latchSleep  = 20 * time.Microsecond
)

func (l *latch) wait() {
	l.line.Lock()
	defer l.line.Unlock()
	for i := 0; ; i++ {
		if l.held.Load() == 0 && l.held.CompareAndSwap(0, 1) {
			return
		}
		switch {
		case i < latchSpins:
		case i < latchSpins+latchYields:
			runtime.Gosched()
		default:
			// Not with the line held: in a synctest bubble time stands still while anyone waits for a mutex.
			l.line.Unlock()
			time.Sleep(latchSleep)
			l.line.Lock()
		}
	}
}
