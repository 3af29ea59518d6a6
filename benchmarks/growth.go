package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/puzpuzpuz/xsync/v3"
	"github.com/sessile-go/sessile"
)

// A GrowthPoint is what it costs at one value of one dimension, all others left alone.
type GrowthPoint struct {
	Dimension string  `json:"dimension"`
	Value     int     `json:"value"`
	Update    Sample  `json:"update_ns"`
	View      Sample  `json:"view_ns"`
	Alternate Sample  `json:"alternate_ns"` // a View and an Update of the same session
	RawUpdate Sample  `json:"raw_update_ns"`
	RawView   Sample  `json:"raw_view_ns"`
	Heap      float64 `json:"heap_bytes_per_session"` // beyond keys and values
	GCShare   float64 `json:"gc_share"`               // of the processor time used by alternating Views and Updates
	GCCycle   float64 `json:"gc_cycle_ms"`            // one full collection
	Missing   string  `json:"missing,omitempty"`
}

// The dimensions.
const (
	bySessions   = "sessions"
	byFields     = "fields"
	byBytes      = "bytes"
	byGoroutines = "goroutines"
	byHotShare   = "hot share, %"
)

// A growthQuestion asks for a point.
type growthQuestion struct {
	Dimension string
	Value     int
}

// growthQuestions returns all points of a scale.
func growthQuestions(s Scale) (all []growthQuestion) {
	for _, d := range []struct {
		dimension string
		values    []int
	}{
		{bySessions, s.GrowthSessions},
		{byFields, []int{1, 10, 30, 100}},
		{byBytes, []int{100, 300, 1000, 4000, 16_000}},
		{byGoroutines, []int{1, 2, 4, 16, 64, 256}},
		{byHotShare, []int{0, 50, 90, 99}},
	} {
		for _, v := range d.values {
			all = append(all, growthQuestion{d.dimension, v})
		}
	}
	return all
}

// A growthShape is where a point lies in all dimensions.
type growthShape struct {
	sessions, fields, bytes, goroutines, hotShare int
}

func (q growthQuestion) shape() (growthShape, error) {
	s := growthShape{sessions: 1000, fields: 4, bytes: payload, goroutines: 1}
	switch q.Dimension {
	case bySessions:
		s.sessions = q.Value
	case byFields:
		s.fields, s.bytes = q.Value, max(payload, 20*q.Value)
	case byBytes:
		s.bytes = q.Value
	case byGoroutines:
		s.goroutines = q.Value
	case byHotShare:
		s.sessions, s.goroutines, s.hotShare = 100_000, 4, q.Value
	default:
		return s, fmt.Errorf("no dimension %q", q.Dimension)
	}
	return s, nil
}

// growthBytes is what a session takes in the engine, the raw map and the list of ids, at most, about.
const growthBytes = 1300

func growthJob(ctx context.Context, a jobArgs) (any, error) {
	var q growthQuestion
	if err := json.Unmarshal(a.More, &q); err != nil {
		return nil, err
	}
	shape, err := q.shape()
	if err != nil {
		return nil, err
	}
	point := &GrowthPoint{Dimension: q.Dimension, Value: q.Value}
	need := int64(shape.sessions) * (growthBytes + int64(shape.bytes) - payload)
	if have := availableMemory(); have > 0 && need > have {
		point.Missing = fmt.Sprintf("needs about %d GB of memory, %d GB are free", need>>30, have>>30)
		return point, nil
	}
	if need > 4<<30 {
		debug.SetGCPercent(20) // what is not garbage is most of it
	}
	g, err := newGrowth(ctx, shape, point)
	if err != nil {
		return nil, err
	}
	defer g.engine.Close()
	return point, g.measure(ctx, a, point)
}

// growth is a population of any shape.
type growth struct {
	population
	shape growthShape
	seq   []string
}

func newGrowth(ctx context.Context, shape growthShape, point *GrowthPoint) (*growth, error) {
	e, err := sessile.Open(sessile.Options{InMemory: true, MaxMemory: 64 << 30})
	if err != nil {
		return nil, err
	}
	g := &growth{population: population{engine: e, ids: idsOf(shape.sessions)}, shape: shape}
	values := shape.values()
	size := 0
	for k, v := range values {
		size += len(k) + len(v)
	}
	before := heapInUse()
	for _, id := range g.ids {
		err := e.CreateID(ctx, id, func(tx sessile.Txn) error {
			err := counter.Set(tx, 1)
			for k, v := range values {
				err = errors.Join(err, tx.Set(k, v))
			}
			return err
		})
		if err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	point.Heap = (heapInUse()-before)/float64(shape.sessions) - float64(size+len("counter")+9)
	start := time.Now()
	runtime.GC()
	point.GCCycle = float64(time.Since(start).Nanoseconds()) / 1e6
	g.raw = xsync.NewMapOf[string, *rawSession](xsync.WithPresize(shape.sessions))
	for _, id := range g.ids {
		g.raw.Store(strings.Clone(id), newRawSession())
	}
	g.draw()
	return g, nil
}

// values are a session's fields beside the counter.
func (s growthShape) values() map[string][]byte {
	rest := s.fields - 1
	values := map[string][]byte{}
	for i := range rest {
		values[fmt.Sprintf("field%03d", i)] = make([]byte, max(1, (s.bytes-len("counter")-9)/rest-len("field000")))
	}
	return values
}

const growthHot = 10 // sessions that a hot share goes to

func (g *growth) draw() {
	r := rand.New(rand.NewPCG(5, 5))
	g.seq = make([]string, sequence)
	for i := range g.seq {
		n := len(g.ids)
		if r.IntN(100) < g.shape.hotShare {
			n = growthHot
		}
		g.seq[i] = g.ids[r.IntN(n)]
	}
}

// spread runs fn on all goroutines of the shape, each on its part of n.
func (g *growth) spread(fn func(at, n int) error) func(at, n int) error {
	if g.shape.goroutines == 1 {
		return fn
	}
	return func(at, n int) error {
		per := max(1, n/g.shape.goroutines)
		errs := make([]error, g.shape.goroutines)
		var wg sync.WaitGroup
		for i := range errs {
			if i*per >= n {
				break
			}
			wg.Go(func() { errs[i] = fn(at+i*per, min(per, n-i*per)) })
		}
		wg.Wait()
		return errors.Join(errs...)
	}
}

func (g *growth) measure(ctx context.Context, a jobArgs, point *GrowthPoint) error {
	side := func(fn func(at, n int) error) *timed { return &timed{run: g.spread(fn)} }
	alternate := func(at, n int) error {
		for i := at; i < at+n; i++ {
			if err := errors.Join(g.view(ctx, g.seq, i, 1), g.update(ctx, g.seq, i, 1)); err != nil {
				return err
			}
		}
		return nil
	}
	perOp, err := interleave(ctx, a.Scale.Rounds, a.Scale.Slice/2,
		side(func(at, n int) error { return g.update(ctx, g.seq, at, n) }),
		side(func(at, n int) error { return g.updateRaw(g.seq, at, n) }),
		side(func(at, n int) error { return g.view(ctx, g.seq, at, n) }),
		side(func(at, n int) error { return g.viewRaw(g.seq, at, n) }),
		side(alternate))
	if err != nil {
		return err
	}
	point.Update, point.RawUpdate = sampleOf(perOp[0]), sampleOf(perOp[1])
	point.View, point.RawView = sampleOf(perOp[2]), sampleOf(perOp[3])
	point.Alternate = sampleOf(perOp[4])
	point.GCShare, err = gcShare(4*a.Scale.Slice, alternate)
	return err
}
