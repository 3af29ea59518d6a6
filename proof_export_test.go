package sessile

import (
	"runtime"
	"time"

	"github.com/sessile-go/sessile/internal/store"
)

// AskForCheckpoint asks for a checkpoint and does not wait for it.
func AskForCheckpoint(e *Engine) { notify(e.persist.checkC) }

// EngineTime returns what the engine's clock says, to the millisecond.
func EngineTime(e *Engine) time.Time {
	return time.UnixMilli(e.clock.base + time.Since(e.clock.start).Milliseconds())
}

// AdvanceClock opens a store for a life in which nothing happens but that the wall
// clock is ahead, by some time, and is set right before the next one.
func AdvanceClock(opt Options, st store.Store, by time.Duration) error {
	p, boot, err := newPersister(opt.withDefaults(), st)
	if err != nil {
		return err
	}
	now := max(boot.clock, time.Now().UnixMilli()) + by.Milliseconds()
	live := groupCounts{now, boot.sessions, boot.anonymous}
	return st.Commit([]store.Op{{Key: lowKey, Value: p.encodeLow(p.low, live)}})
}

// FailHalfway lets the store fail, and stops where some shards are sealed. It tells which sessions are in those, and how to go on.
func FailHalfway(e *Engine, cause error) (sealed func(id string) bool, goOn func()) {
	first, at := e.shards[0], e.shards[len(e.shards)/2]
	at.mu.Lock()
	done := make(chan struct{})
	go func() {
		e.persist.fail(cause)
		close(done)
	}()
	for reached := false; !reached; runtime.Gosched() {
		first.mu.Lock()
		reached = first.sealed != nil
		first.mu.Unlock()
	}
	sealed = func(id string) bool { return e.shardOf(e.hash(id)).index < at.index }
	return sealed, func() {
		at.mu.Unlock()
		<-done
	}
}

// Pinned returns how many hot sessions are pinned.
func Pinned(e *Engine) (n int) {
	for _, sh := range e.shards {
		sh.mu.Lock()
		for _, s := range sh.ring {
			if s != nil && s.word.Load()>>pinShift != 0 {
				n++
			}
		}
		sh.mu.Unlock()
	}
	return n
}

// LookWhileMoving returns what a list tells of a session that is about to take another place.
func LookWhileMoving(e *Engine, id string) Info {
	h := e.hash(id)
	sh := e.shardOf(h)
	s := e.find(h, id)
	sh.mu.Lock()
	w := s.word.Load()
	s.setStatus(dead)
	looked := make(chan Info, 1)
	go func() {
		info, _, _ := e.look(id)
		looked <- info
	}()
	time.Sleep(20 * time.Millisecond) // it must not come to an answer, which no signal can tell
	s.word.Store(w)
	sh.mu.Unlock()
	return <-looked
}
