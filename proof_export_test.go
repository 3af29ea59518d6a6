package sessile

import (
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
