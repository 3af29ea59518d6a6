package sessile

import (
	"sync/atomic"
	"time"
)

// Stats are the counters (since Open) and gauges of an [Engine]. Updates and
// Views are read off the transactions' own generation counters, so that
// counting costs the hot path nothing.
type Stats struct {
	Sessions   int64 // live sessions, hot and cold
	Anonymous  int64 // live sessions without a user
	Hot        int64 // session objects in memory
	Dirty      int64 // hot sessions whose newest state is not in their record
	Bytes      int64 // memory of hot sessions
	DirtyBytes int64 // memory of dirty sessions, about; they cannot be evicted

	Updates     uint64 // writing transactions begun, one for each session of the Many forms
	Views       uint64 // reading transactions begun
	Commits     uint64 // new versions, ends included
	Running     int64  // callbacks running now
	Creates     uint64
	Deletes     uint64 // sessions ended by Delete, Destroy or DeleteUser
	Limited     uint64 // sessions ended by KeepNewest
	Expirations uint64

	Misses    uint64 // lookups of a session that was not in memory
	Loads     uint64 // records read for them
	Evictions uint64
	Corrupt   uint64 // records that could not be read

	LockWaits    uint64 // waits for a session's lock
	LockTimeouts uint64 // that ended in ErrBusy after LockTimeout
	LockRefusals uint64 // refused because of MaxWaiters
	SlowTxns     uint64 // callbacks that held a session longer than SlowTxn

	Groups          uint64        // groups written
	GroupBytes      uint64        // bytes in them
	LastGroup       int64         // bytes in the last one
	GroupTime       time.Duration // spent writing groups, in all
	LastGroupTime   time.Duration
	OldestUndurable time.Duration // age of the oldest commit not on disk: the loss window as it is now
	LogBytes        int64         // the log on disk and in memory
	Checkpoints     uint64
	CheckpointTime  time.Duration // spent in checkpoints, in all
	PersistErrors   uint64        // writes refused or failed
	DiskFull        bool          // writes are refused for want of room
	Failed          error         // the first cause of ErrPersistence, nil while healthy
}

// counters are what happens seldom enough to be counted as it happens.
type counters struct {
	creates, deletes, limited, expirations    atomic.Uint64
	misses, loads, evictions, corrupt         atomic.Uint64
	lockWaits, lockTimeouts, lockRefusals     atomic.Uint64
	slowTxns, groups, groupBytes, checkpoints atomic.Uint64
	persistErrors                             atomic.Uint64
	lastGroup, groupTime, lastGroupTime       atomic.Int64
	checkpointTime                            atomic.Int64
}

// Stats returns the engine's counters and gauges. The numbers are each right, but
// not of one instant.
func (e *Engine) Stats() Stats {
	c := &e.count
	s := Stats{
		Sessions: e.live.sessions.Load(), Anonymous: e.live.anonymous.Load(), Bytes: e.memory.Load(),
		Creates: c.creates.Load(), Deletes: c.deletes.Load(), Limited: c.limited.Load(), Expirations: c.expirations.Load(),
		Misses: c.misses.Load(), Loads: c.loads.Load(), Evictions: c.evictions.Load(), Corrupt: c.corrupt.Load(),
		LockWaits: c.lockWaits.Load(), LockTimeouts: c.lockTimeouts.Load(), LockRefusals: c.lockRefusals.Load(),
		SlowTxns: c.slowTxns.Load(), Groups: c.groups.Load(), GroupBytes: c.groupBytes.Load(), LastGroup: c.lastGroup.Load(),
		GroupTime: time.Duration(c.groupTime.Load()), LastGroupTime: time.Duration(c.lastGroupTime.Load()),
		Checkpoints: c.checkpoints.Load(), CheckpointTime: time.Duration(c.checkpointTime.Load()),
		PersistErrors: c.persistErrors.Load(),
	}
	var running int64
	s.Updates, running = e.updates.begun()
	s.Running = running
	s.Views, running = e.views.begun()
	s.Running += running
	for _, sh := range e.shards {
		sh.mu.Lock()
		s.Hot += int64(len(sh.ring) - sh.holes)
		s.Dirty += int64(len(sh.changed))
		s.DirtyBytes += sh.dirty
		s.Commits += sh.version - sh.booted
		sh.mu.Unlock()
	}
	if p := e.persist; p != nil {
		s.LogBytes = p.logBytes.Load()
		s.OldestUndurable = p.oldest()
		p.mu.Lock()
		s.DiskFull, s.Failed = p.isFull, p.failure
		p.mu.Unlock()
	}
	return s
}

// oldest returns the age of the oldest commit that is not on disk.
func (p *persister) oldest() time.Duration {
	at := int64(0)
	if g := p.flying.Load(); g != nil {
		at = g.started.Load()
	}
	if at == 0 {
		sh := p.e.shards[0]
		sh.mu.Lock()
		at = p.open.started.Load()
		sh.mu.Unlock()
	}
	if at == 0 {
		return 0
	}
	return time.Duration(max(0, p.e.clock.now()-at)) * time.Millisecond
}
