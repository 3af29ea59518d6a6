package sessile

import (
	"time"

	"github.com/sessile-go/sessile/internal/store"
)

// Check walks the invariants of an engine that nobody uses meanwhile.
func Check(e *Engine) error {
	// The sweeper may work just now, and checkpoints may run.
	var err error
	for range 100 {
		if err = e.check(); err == nil {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return err
}

// CheckDisk compares records, index and counts of an engine just opened.
func CheckDisk(e *Engine) error { return e.checkDisk() }

// OpenOn opens an engine on a store of the test's own.
func OpenOn(opt Options, st store.Store) (*Engine, error) {
	opt = opt.withDefaults()
	if err := opt.validate(); err != nil {
		return nil, err
	}
	return openWith(opt, st)
}

// Checkpoint asks for a checkpoint and returns when one has begun and ended, or
// when there is nothing to write.
func Checkpoint(e *Engine) {
	before := e.count.checkpoints.Load()
	for idle, tries := 0, 0; e.count.checkpoints.Load() == before && idle < 3; tries++ {
		if tries == 300_000 { // five minutes, in a bubble
			panic("no checkpoint")
		}
		notify(e.persist.checkC)
		time.Sleep(time.Millisecond)
		if e.Stats().DirtyBytes == 0 {
			idle++
		}
	}
}

// EvictAll evicts every session that may be evicted.
func EvictAll(e *Engine) {
	for range 2 { // the first pass takes the marks of use
		for _, sh := range e.shards {
			sh.mu.Lock()
			n := len(sh.ring)
			sh.mu.Unlock()
			for ; n > 0; n -= handStep {
				e.count.evictions.Add(uint64(sh.evict(e, 0)))
			}
		}
	}
}
