package sessile

import (
	"context"
	"errors"
	"runtime"
	"sync"
)

// shutdown is the closing of an engine, done once, on a goroutine of its own,
// and waited for by any number of Shutdown calls.
type shutdown struct {
	once sync.Once
	done chan struct{} // closed when it has ended

	mu sync.Mutex
	// Guarded by mu.
	change chan struct{} // closed when a callback returns
	err    error         // set before done is closed
}

// poke wakes the drain: a callback has returned.
func (s *shutdown) poke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.change != nil {
		close(s.change)
		s.change = nil
	}
}

func (s *shutdown) changed() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.change == nil {
		s.change = make(chan struct{})
	}
	return s.change
}

// Flush returns nil when all commits made before it was called are on disk.
// Otherwise it returns ErrDurabilityUnknown around the cause. In memory it does nothing.
func (e *Engine) Flush(ctx context.Context) error {
	ctx = background(ctx)
	if err := e.enter(ctx); err != nil {
		return err
	}
	if e.persist == nil {
		return nil
	}
	g, err := e.openGroup(e.shards[0])
	if err != nil {
		return err
	}
	return e.persist.await(ctx, g)
}

// Shutdown closes the engine: new calls get ErrClosed, callbacks that run are
// waited for, everything is made durable and the directory is released. A nil
// error means all of that, and that no goroutine of the engine is left.
//
// If ctx ends first Shutdown returns a *ShutdownError that says what is left.
// The closing goes on meanwhile, and what is committed becomes durable also while a
// callback does not return; Shutdown may be called again to go on waiting. Calls after a complete Shutdown
// return what it returned. Inside a callback, with its context, it is ErrReentrant.
func (e *Engine) Shutdown(ctx context.Context) error {
	ctx = background(ctx)
	if e.reentrant(ctx) {
		return ErrReentrant
	}
	e.shutdown.once.Do(func() {
		e.gate.Or(gateClosing)
		// Transactions announce themselves without a fence (relaxedUint64). A world
		// stopped once in between has either shown this call that one runs, or will show it that the engine closes.
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		e.room.wakeAll(e)
		go e.close()
	})
	select {
	case <-e.shutdown.done:
		return e.shutdown.err
	default:
	}
	select {
	case <-e.shutdown.done:
		return e.shutdown.err
	case <-ctx.Done():
	}
	_, u := e.updates.begun()
	_, v := e.views.begun()
	err := &ShutdownError{Running: int(u + v), Cause: ctx.Err()}
	if p := e.persist; p != nil {
		err.Undurable = p.undurable()
		if cause := p.trouble(); cause != nil {
			err.Cause = errors.Join(err.Cause, cause)
		}
	}
	return err
}

// Close is Shutdown with [Options.CloseTimeout].
func (e *Engine) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), e.opt.CloseTimeout)
	defer cancel()
	return e.Shutdown(ctx)
}

// close does what Shutdown waits for.
func (e *Engine) close() {
	for {
		changed := e.shutdown.changed()
		_, u := e.updates.begun()
		_, v := e.views.begun()
		if u+v == 0 && !e.ends.busy() {
			break
		}
		<-changed
	}
	var err error
	if e.persist != nil {
		err = e.persist.close()
	}
	close(e.stop)
	e.workers.Wait()
	// Loaders that were under way hold places in loads; with all of them here, none runs.
	for range cap(e.loads) {
		e.loads <- struct{}{}
	}
	if e.persist != nil {
		err = errors.Join(err, e.persist.release())
	}
	e.shutdown.err = nil
	if err != nil {
		e.shutdown.err = &ShutdownError{Undurable: e.persist.cause() != nil, Cause: err}
	}
	close(e.shutdown.done)
}

// undurable reports whether commits are known not to be on disk.
func (p *persister) undurable() bool {
	if p.cause() != nil || p.flying.Load() != nil {
		return true
	}
	for _, sh := range p.e.shards {
		sh.mu.Lock()
		n := len(sh.log)
		sh.mu.Unlock()
		if n > 0 {
			return true
		}
	}
	return false
}

// trouble returns what keeps the persister from writing, if anything.
func (p *persister) trouble() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failure == nil && p.isFull {
		return ErrDiskFull
	}
	return p.failure
}

// close seals the log with the final cut, and brings everything to the records.
func (p *persister) close() error {
	close(p.stopCheck)
	p.checker.Wait()
	if p.cause() == nil {
		for _, sh := range p.e.shards {
			p.saveTouches(sh)
		}
		if p.checkpoint(ErrClosed) {
			if err := p.store.SetMark(p.low); err != nil {
				p.fail(err)
			}
		}
	}
	close(p.stop)
	p.workers.Wait()
	return p.cause()
}

// saveTouches lists the sessions whose last-seen is newer than their record.
func (p *persister) saveTouches(sh *shard) {
	sh.mu.Lock()
	ring := append([]*session(nil), sh.ring...)
	sh.mu.Unlock()
	for _, s := range ring {
		if s == nil || s.word.Load()&bitTouched == 0 {
			continue
		}
		sh.mu.Lock()
		if s.status() == live {
			sh.markChangedLocked(s)
		}
		sh.mu.Unlock()
	}
}

// release closes the store, after everything that reads it has ended.
func (p *persister) release() error { return p.store.Close() }
