package sessile

import (
	"context"
	"sync"
)

// room is where changes wait for space in the log, before they take any lock.
type room struct {
	mu sync.Mutex
	// Guarded by mu.
	open   chan struct{} // closed while there is room
	shutBy uint32        // the gate's bits that shut it
}

// shut closes the gate for a reason.
func (r *room) shut(e *Engine, bit uint32) {
	if e.gate.Load()&bit != 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shutBy == 0 {
		r.open = make(chan struct{})
	}
	r.shutBy |= bit
	e.gate.Or(bit)
}

// clear ends the reason, and lets everybody go on who has none left to wait.
func (r *room) clear(e *Engine, bit uint32) {
	if e.gate.Load()&bit == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	e.gate.And(^bit)
	if r.shutBy &^= bit; r.shutBy == 0 {
		close(r.open)
		r.open = closedChan
	}
}

// wakeAll lets everybody look at the gate again, because the engine closes or has failed.
func (r *room) wakeAll(e *Engine) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.shutBy != 0 {
		close(r.open)
		r.open = make(chan struct{})
	}
}

// admitSlow is admit when the gate is not clear.
func (e *Engine) admitSlow(ctx context.Context) error {
	for {
		e.room.mu.Lock()
		open := e.room.open
		e.room.mu.Unlock()
		switch g := e.gate.Load(); {
		case g&gateClosing != 0:
			return ErrClosed
		case g&gateFailed != 0:
			<-e.persist.failed // soon: fail waits for latches only
			return e.persist.cause()
		case g&gateDisk != 0:
			return ErrDiskFull
		case g&gateFull == 0:
			return nil
		}
		notify(e.persist.checkC)
		select {
		case <-open:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
