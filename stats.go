package sessile

import "time"

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

	Updates     uint64 // writing transactions begun, the Many forms counted once
	Views       uint64 // reading transactions begun
	Commits     uint64 // new versions
	Running     int64  // callbacks running now
	Creates     uint64
	Deletes     uint64 // sessions ended by Delete, Destroy or DeleteUser
	Limited     uint64 // sessions ended by KeepNewest
	Expirations uint64

	Misses    uint64 // lookups of a session that was not in memory
	Loads     uint64 // records read for them
	Evictions uint64

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
