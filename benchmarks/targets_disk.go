package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	badger "github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"
	"github.com/sessile-go/sessile"
)

// storeOptions are those that the engine opens Badger with.
func storeOptions(dir string) badger.Options {
	return badger.DefaultOptions(dir).WithSyncWrites(true).WithMemTableSize(16 << 20).WithNumMemtables(3).
		WithNumCompactors(2).WithNumVersionsToKeep(1).WithDetectConflicts(false).WithMetricsEnabled(false).
		WithCompression(options.None).WithBlockCacheSize(0).WithChecksumVerificationMode(options.NoVerification).
		WithValueThreshold(1 << 20).WithValueLogFileSize(16 << 20).WithCompactL0OnClose(false).WithLogger(nil)
}

// writeRecords writes n records of a session's size to Badger as fast as a batch can.
func writeRecords(db *badger.DB, n int) error {
	batch := db.NewWriteBatch()
	defer batch.Cancel()
	value := []byte(strings.Repeat("v", payload))
	for i := range n {
		if err := batch.Set([]byte(idOf(uint64(i))), value); err != nil {
			return err
		}
	}
	return batch.Flush()
}

// openTarget is target 12: both directories hold as many sessions of the same size, closed in good order, and
// are in the page cache. The engine verifies all files before it trusts them; so does Badger with
// OnTableRead, which is what it is held to. What Badger takes without is told beside it.
func openTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	n := a.Scale.TargetDisk
	ours, base := filepath.Join(a.Dir, "sessile"), filepath.Join(a.Dir, "badger")
	if _, err := populateChild(ctx, populateQuestion{Dir: ours, Sessions: n}); err != nil {
		return nil, err
	}
	db, err := badger.Open(storeOptions(base).WithSyncWrites(false))
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeRecords(db, n), db.Close()); err != nil {
		return nil, err
	}
	var opens, bases, blind []float64
	for range a.Scale.Rounds {
		took, err := timeOpen(ctx, ours, n)
		if err != nil {
			return nil, err
		}
		opens = append(opens, float64(took.open+took.update))
		verified, err := timeBadgerOpen(storeOptions(base).WithChecksumVerificationMode(options.OnTableRead))
		if err != nil {
			return nil, err
		}
		unverified, err := timeBadgerOpen(storeOptions(base))
		if err != nil {
			return nil, err
		}
		bases, blind = append(bases, verified), append(blind, unverified)
	}
	r := costOf([][]float64{opens, bases}, n)
	r.Note = fmt.Sprintf("the directories hold %.0f MB and %.0f MB; badger.Open without verification %.0f ms, the ratio to that is %.1f",
		float64(diskUsage(ours))/1e6, float64(diskUsage(base))/1e6, sampleOf(blind).Median/1e6, ratios(opens, blind).Median)
	return r, nil
}

// timeBadgerOpen returns the nanoseconds that Badger takes to open a directory, and closes it.
func timeBadgerOpen(o badger.Options) (float64, error) {
	start := time.Now()
	db, err := badger.Open(o)
	if err != nil {
		return 0, err
	}
	took := float64(time.Since(start))
	return took, db.Close()
}

// opened is what it took to open a directory.
type opened struct{ open, update time.Duration }

// timeOpen opens the directory, makes the first Update, and closes it.
func timeOpen(ctx context.Context, dir string, sessions int) (o opened, err error) {
	start := time.Now()
	e, err := sessile.Open(sessile.Options{Dir: dir})
	if err != nil {
		return o, err
	}
	o.open = time.Since(start)
	err = e.Update(ctx, idOf(uint64(sessions/2)), func(tx sessile.Txn) error { return counter.Set(tx, 2) })
	o.update = time.Since(start) - o.open
	if have := e.Stats().Sessions; err == nil && have != int64(sessions) {
		err = fmt.Errorf("%d sessions after Open, want %d", have, sessions)
	}
	return o, errors.Join(err, e.Close())
}

// recoveryTarget is target 13: a process makes sessions, all of them in the log, and is killed. Each
// round opens a copy of what it left.
func recoveryTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	n := a.Scale.TargetRecovery
	crashed := filepath.Join(a.Dir, "crashed")
	left, err := populateChild(ctx, populateQuestion{Dir: crashed, Sessions: n, Crash: true, LogOnly: true})
	if err != nil {
		return nil, err
	}
	if left.Checkpoints != 0 {
		return nil, fmt.Errorf("%d checkpoints, so the log is not whole", left.Checkpoints)
	}
	recordBytes := float64(n * (len(idOf(0)) + payload))
	var ours, base, unsynced []float64
	for round := range a.Scale.Rounds {
		dir := filepath.Join(a.Dir, fmt.Sprint("round", round))
		if err := os.CopyFS(dir, os.DirFS(crashed)); err != nil {
			return nil, err
		}
		syscall.Sync() // what the copy wrote is not to be waited for by what is measured
		took, err := timeOpen(ctx, dir, n)
		if err != nil {
			return nil, fmt.Errorf("after the crash: %w", err)
		}
		ours = append(ours, float64(left.LogBytes)/took.open.Seconds())
		for _, sync := range []bool{true, false} {
			rate, err := recordRate(filepath.Join(a.Dir, fmt.Sprint("badger", round, sync)), sync, n, recordBytes)
			if err != nil {
				return nil, err
			}
			if sync {
				base = append(base, rate)
			} else {
				unsynced = append(unsynced, rate)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
	}
	r := costOf([][]float64{ours, base}, n)
	r.Note = fmt.Sprintf("log of %.1f MB; Badger without sync writes %.0f MB/s, the ratio to that is %.2f",
		float64(left.LogBytes)/1e6, sampleOf(unsynced).Median/1e6, ratios(ours, unsynced).Median)
	return r, nil
}

// recordRate returns how many bytes of records a second a new Badger takes.
func recordRate(dir string, sync bool, n int, bytes float64) (float64, error) {
	syscall.Sync()
	db, err := badger.Open(storeOptions(dir).WithSyncWrites(sync))
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = writeRecords(db, n)
	took := time.Since(start)
	return bytes / took.Seconds(), errors.Join(err, db.Close(), os.RemoveAll(dir))
}
