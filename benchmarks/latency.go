package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/puzpuzpuz/xsync/v3"
	"github.com/sessile-go/sessile"
	"github.com/sessile-go/sessile/benchmarks/peers"
)

// A LatencyRun is one open loop: each kind of call at a fixed rate, all at once.
type LatencyRun struct {
	Sessions    int           `json:"sessions"` // at the start
	Rate        int           `json:"rate"`     // calls a second of each of the first three
	Slice       time.Duration `json:"slice"`
	Calls       []LatencyCall `json:"calls"`
	Flushes     uint64        `json:"flushes"` // while it ran
	Checkpoints uint64        `json:"checkpoints"`
	Evictions   uint64        `json:"evictions"`
	Loads       uint64        `json:"loads"`
	Created     uint64        `json:"created"`
	Ratio       Sample        `json:"ratio"` // p99.9 of View ÷ p99.9 of the raw read, round by round
}

// The calls that are compared.
const (
	callRaw  = "raw map read"
	callView = "View, a hot session"
)

// A LatencyCall is what one kind of call took, in nanoseconds.
type LatencyCall struct {
	Name  string `json:"name"`
	Count int64  `json:"count"`
	P50   int64  `json:"p50"`
	P99   int64  `json:"p99"`
	P999  int64  `json:"p999"`
	Max   int64  `json:"max"`
}

type latencyQuestion struct {
	Sessions int
	Rate     int
}

// latencyHot is the share of sessions that the hot calls use: one of so many.
const latencyHot = 10

// A latencyScene is an engine that flushes, checkpoints, evicts, loads and grows, and a raw map of as many
// sessions, which grows as fast.
type latencyScene struct {
	engine *sessile.Engine
	raw    *xsync.MapOf[string, *rawSession]
	fill   func(sessile.Txn) error
	ids    []string
	hot    []string
	random [5]*rand.Rand
	sum    int64 // of what was read, so that it is
	made   int
}

func latencyJob(ctx context.Context, a jobArgs) (any, error) {
	var q latencyQuestion
	if err := json.Unmarshal(a.More, &q); err != nil {
		return nil, err
	}
	s, err := newLatencyScene(ctx, a, q.Sessions)
	if err != nil {
		return nil, err
	}
	defer s.engine.Close()
	run := &LatencyRun{Sessions: q.Sessions, Rate: q.Rate, Slice: a.Scale.LatencySlice}
	before := s.engine.Stats()
	seldom := max(1, q.Rate/20)
	names := []string{callRaw, callView, "Update, a hot session", "View, any session", "Create"}
	merged := make([]*hdrhistogram.Histogram, len(names))
	for i := range merged {
		merged[i] = newLatency()
	}
	var ratio []float64
	for range a.Scale.Rounds {
		loops := []*openLoop{
			newOpenLoop(q.Rate, s.read), newOpenLoop(q.Rate, s.view), newOpenLoop(q.Rate, s.update),
			newOpenLoop(seldom, s.viewAny), newOpenLoop(seldom, s.create),
		}
		if err := runLoops(ctx, loops, a.Scale.LatencySlice); err != nil {
			return nil, err
		}
		for i, l := range loops {
			merged[i].Merge(l.latency)
		}
		ratio = append(ratio, float64(loops[1].latency.ValueAtQuantile(99.9))/float64(loops[0].latency.ValueAtQuantile(99.9)))
	}
	run.Ratio = sampleOf(ratio)
	for i, h := range merged {
		run.Calls = append(run.Calls, LatencyCall{
			names[i], h.TotalCount(), h.ValueAtQuantile(50), h.ValueAtQuantile(99), h.ValueAtQuantile(99.9), h.Max(),
		})
	}
	after := s.engine.Stats()
	run.Flushes, run.Checkpoints = after.Groups-before.Groups, after.Checkpoints-before.Checkpoints
	run.Evictions, run.Loads = after.Evictions-before.Evictions, after.Loads-before.Loads
	run.Created = after.Creates - before.Creates
	return run, nil
}

// newLatencyScene opens an engine that has room for half of the sessions.
func newLatencyScene(ctx context.Context, a jobArgs, sessions int) (*latencyScene, error) {
	e, err := sessile.Open(sessile.Options{
		Dir: a.Dir, MaxMemory: max(1<<20, int64(sessions)*(payload+hotOverhead)/2), CheckpointInterval: min(a.Scale.Checkpoint, time.Second),
	})
	if err != nil {
		return nil, err
	}
	s := &latencyScene{
		engine: e, raw: xsync.NewMapOf[string, *rawSession](), fill: peers.SessileFill(payload), ids: idsOf(sessions),
	}
	for i := range s.random {
		s.random[i] = rand.New(rand.NewPCG(3, uint64(i)))
	}
	s.hot = s.ids[:max(1, sessions/latencyHot)]
	for _, id := range s.ids {
		if err := e.CreateID(ctx, id, s.fill); err != nil {
			return nil, fmt.Errorf("fill: %w", err)
		}
		s.raw.Store(strings.Clone(id), newRawSession())
	}
	for _, id := range s.hot {
		if err := e.View(ctx, id, nil); err != nil {
			return nil, err
		}
	}
	return s, e.Flush(ctx)
}

// runLoops runs loops at once and returns the first error.
func runLoops(ctx context.Context, loops []*openLoop, d time.Duration) error {
	clock := machineClock{time.Now()}
	errs := make([]error, len(loops))
	var wg sync.WaitGroup
	for i, l := range loops {
		wg.Go(func() { errs[i] = l.run(ctx, clock, d) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *latencyScene) read(int) error {
	r, ok := s.raw.Load(s.hot[s.random[0].IntN(len(s.hot))])
	if !ok {
		return fmt.Errorf("a raw session is missing")
	}
	s.sum += int64(binary.LittleEndian.Uint64(r.value[:]))
	return nil
}

func readCounter(tx sessile.Txn) error {
	_, err := counter.Get(tx)
	return err
}

func (s *latencyScene) view(int) error {
	return s.engine.View(context.Background(), s.hot[s.random[1].IntN(len(s.hot))], readCounter)
}

func (s *latencyScene) update(i int) error {
	return s.engine.Update(context.Background(), s.hot[s.random[2].IntN(len(s.hot))], func(tx sessile.Txn) error {
		return counter.Set(tx, int64(i))
	})
}

func (s *latencyScene) viewAny(int) error {
	return s.engine.View(context.Background(), s.ids[s.random[3].IntN(len(s.ids))], readCounter)
}

func (s *latencyScene) create(int) error {
	s.made++
	id := idOf(1<<40 + uint64(s.made))
	s.raw.Store(strings.Clone(id), newRawSession())
	return s.engine.CreateID(context.Background(), id, s.fill)
}
