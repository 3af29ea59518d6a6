package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"time"

	"github.com/sessile-go/sessile"
)

// Steady is an hour of steady load, or less: Updates of an 8-byte value at a fixed rate.
type Steady struct {
	For         time.Duration  `json:"for"`
	Sessions    int            `json:"sessions"`
	Rate        int            `json:"rate"`
	Updates     int64          `json:"updates"`
	Logical     int64          `json:"logical_bytes"`  // values set
	Groups      int64          `json:"group_bytes"`    // written to the log
	Written     int64          `json:"written_bytes"`  // by the process, as the kernel counts
	Checkpoints uint64         `json:"checkpoints"`    // while it ran
	Samples     []SteadySample `json:"samples"`        // over time, the first before the load
	Filled      int64          `json:"filled_bytes"`   // keys and values of all sessions
	Checkpoint  time.Duration  `json:"checkpoint"`     // CheckpointInterval
	Behind      time.Duration  `json:"behind"`         // the worst that a call was late
	Lost        int64          `json:"lost,omitempty"` // Updates acknowledged and not there at the end
}

// A SteadySample is one look at the sizes.
type SteadySample struct {
	At   time.Duration `json:"at"`
	Log  int64         `json:"log_bytes"`
	Disk int64         `json:"disk_bytes"`
}

func steadyJob(ctx context.Context, a jobArgs) (any, error) {
	s := &Steady{For: a.Scale.Steady, Sessions: a.Scale.SteadySessions, Rate: a.Scale.SteadyRate, Checkpoint: min(a.Scale.Checkpoint, 30*time.Second)}
	e, err := sessile.Open(sessile.Options{Dir: a.Dir, CheckpointInterval: s.Checkpoint, MaxMemory: 8 << 30})
	if err != nil {
		return nil, err
	}
	defer e.Close()
	ids := idsOf(s.Sessions)
	for _, id := range ids {
		if err := e.CreateID(ctx, id, func(tx sessile.Txn) error {
			if err := fillCounter(tx); err != nil {
				return err
			}
			return counter.Set(tx, 0)
		}); err != nil {
			return nil, err
		}
	}
	if err := e.Flush(ctx); err != nil {
		return nil, err
	}
	s.Filled = int64(s.Sessions) * payload
	look := func(at time.Duration) {
		s.Samples = append(s.Samples, SteadySample{at, e.Stats().LogBytes, diskUsage(a.Dir)})
	}
	look(0)
	before, writtenBefore := e.Stats(), writtenBytes()
	draw := drawer("zipf", s.Sessions, rand.New(rand.NewPCG(9, 9)))
	loop := newOpenLoop(s.Rate, func(int) error {
		return e.Update(ctx, ids[draw()], func(tx sessile.Txn) error {
			_, err := sessile.Add(tx, counter, 1)
			return err
		})
	})
	clock := machineClock{time.Now()}
	const looks = 10
	for range looks {
		if err := loop.run(ctx, clock, s.For/looks); err != nil {
			return nil, err
		}
		look(clock.now())
	}
	if err := e.Flush(ctx); err != nil {
		return nil, err
	}
	after := e.Stats()
	s.Updates, s.Behind = loop.latency.TotalCount(), time.Duration(loop.latency.Max())
	s.Logical, s.Written = s.Updates*8, writtenBytes()-writtenBefore
	s.Groups, s.Checkpoints = int64(after.GroupBytes-before.GroupBytes), after.Checkpoints-before.Checkpoints
	sum := int64(0)
	for _, id := range ids {
		v, err := sessile.Read(ctx, e.Session(id), counter)
		if err != nil {
			return nil, err
		}
		sum += v
	}
	s.Lost = s.Updates - sum
	return s, nil
}

// An OpenTime is how long it takes to open a directory.
type OpenTime struct {
	Sessions int   `json:"sessions"`
	Clean    Span  `json:"clean"`
	Crash    Span  `json:"crash"`
	LogBytes int64 `json:"log_bytes"` // that the crash left
	Disk     int64 `json:"disk_bytes"`
}

// A Span is the time of Open and of the first Update after it, in nanoseconds.
type Span struct {
	Open   time.Duration `json:"open"`
	Update time.Duration `json:"update"`
}

// openJob fills a directory and opens it after a Close, and another one after a kill, with a tenth of the sessions
// updated since.
func openJob(ctx context.Context, a jobArgs) (any, error) {
	var sessions int
	if err := json.Unmarshal(a.More, &sessions); err != nil {
		return nil, err
	}
	o := &OpenTime{Sessions: sessions}
	for _, crash := range []bool{false, true} {
		dir := filepath.Join(a.Dir, fmt.Sprint("crash", crash))
		left, err := populateChild(ctx, populateQuestion{Dir: dir, Sessions: sessions, Updates: sessions / 10, Crash: crash})
		if err != nil {
			return nil, err
		}
		took, err := timeOpen(ctx, dir, sessions)
		if err != nil {
			return nil, err
		}
		if crash {
			o.Crash, o.LogBytes = Span{took.open, took.update}, left.LogBytes
		} else {
			o.Clean, o.Disk = Span{took.open, took.update}, diskUsage(dir)
		}
	}
	return o, nil
}
