package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/sessile-go/sessile"
)

// A Target is one of the ratios that the engine is held to.
type Target struct {
	ID       string  `json:"id"`
	Title    string  `json:"title"`
	Goal     float64 `json:"goal"`
	Moonshot float64 `json:"moonshot"`
	AtMost   bool    `json:"at_most"`   // the value is a cost; otherwise a speed
	OursUnit string  `json:"ours_unit"` // what is measured
	BaseUnit string  `json:"base_unit"` // against what
	measure  func(context.Context, jobArgs) (*TargetResult, error)
}

// A TargetResult is what a target measured.
type TargetResult struct {
	Value    Sample `json:"value"`
	Ours     Sample `json:"ours"`
	Base     Sample `json:"base"`
	Sessions int    `json:"sessions,omitempty"`
	Note     string `json:"note,omitempty"`
}

// A TargetRow is a target with its result.
type TargetRow struct {
	Target
	TargetResult
	Missing string `json:"missing,omitempty"`
}

// met reports whether a bound holds.
func (t TargetRow) met(bound float64) bool {
	if t.Missing != "" {
		return false
	}
	if t.AtMost {
		return t.Value.Median <= bound
	}
	return t.Value.Median >= bound
}

// targets are the thirteen of the design; the third has two parts.
func targets() []Target {
	const ns, raw = "Update, ns", "Load + Mutex + 8-byte write, ns"
	return []Target{
		{"1", "Update ÷ map, mutex and write by hand, 1,000 sessions", 4, 2.5, true, ns, raw, onDisk(1000, updateTarget)},
		{"2", "the same, a million sessions in memory", 2.5, 1.6, true, ns, raw, inMemory(updateTarget)},
		{"3a", "View ÷ map and read by hand, 1,000 sessions", 3.5, 2, true, "View, ns", "Load + read, ns", onDisk(1000, viewTarget)},
		{"3b", "the same, a million sessions in memory", 2, 1.4, true, "View, ns", "Load + read, ns", inMemory(viewTarget)},
		{"4", "allocations per Update and per View, the most", 0, 0, true, "allocations", "", allocationTarget},
		{"5", "Badger read-modify-write, no sync ÷ Update, zipf over a million", 25, 60, false, ns, "Badger, ns", badgerTarget},
		{"6", "Badger synced transaction ÷ durable Update, 512 callers", 80, 300, false, "durable Update, ns", "Badger synced, ns", syncedTarget},
		{"7", "512-byte fdatasync ÷ durable Update, 512 callers", 50, 100, false, "durable Update, ns", "fdatasync, ns", fdatasyncTarget},
		{"8", "scs load, change, commit ÷ Update, 10,000 sessions", 150, 300, false, ns, "scs memstore, ns", scsTarget},
		{"9", "Redis script over a unix socket ÷ Update, 10,000 sessions", 100, 200, false, ns, "Redis script, ns", redisTarget},
		{"10", "heap bytes a hot session beyond its payload, a million sessions", 200, 120, true, "bytes", "", heapTarget},
		{"11", "p99.9 of View, open loop, with all going on ÷ p99.9 of the raw map read", 2, 1.2, true, "View p99.9, ns", "raw p99.9, ns", nil},
		{"12", "Open to first Update ÷ badger.Open, a million sessions on disk", 1.2, 1.05, true, "Open and Update, ns", "badger.Open with verification, ns", openTarget},
		{"13", "recovery, log bytes a second ÷ Badger write of the same records", 0.5, 0.8, false, "log bytes a second", "record bytes a second", recoveryTarget},
	}
}

// A populationTarget measures on sessions that are there.
type populationTarget func(context.Context, jobArgs, *population) (ours, base *timed)

// onDisk and inMemory populate an engine and measure target on it.
func onDisk(sessions int, target populationTarget) func(context.Context, jobArgs) (*TargetResult, error) {
	return func(ctx context.Context, a jobArgs) (*TargetResult, error) {
		return onPopulation(ctx, a, sessions, a.Dir, target)
	}
}

func inMemory(target populationTarget) func(context.Context, jobArgs) (*TargetResult, error) {
	return func(ctx context.Context, a jobArgs) (*TargetResult, error) {
		return onPopulation(ctx, a, a.Scale.TargetMillion, "", target)
	}
}

func onPopulation(ctx context.Context, a jobArgs, sessions int, dir string, target populationTarget) (*TargetResult, error) {
	p, err := populate(ctx, sessions, dir)
	if err != nil {
		return nil, err
	}
	defer p.close()
	ours, base := target(ctx, a, p)
	for _, side := range []*timed{ours, base} { // what the caches of either side are to hold is in them before anything counts
		if err := side.run(0, sequence); err != nil {
			return nil, err
		}
	}
	perOp, err := interleave(ctx, a.Scale.Rounds, a.Scale.TargetSlice, ours, base)
	if err != nil {
		return nil, err
	}
	return costOf(perOp, sessions), nil
}

// costOf divides ours by the base.
func costOf(perOp [][]float64, sessions int) *TargetResult {
	return &TargetResult{Value: ratios(perOp[0], perOp[1]), Ours: sampleOf(perOp[0]), Base: sampleOf(perOp[1]), Sessions: sessions}
}

// speedOf divides the base by ours.
func speedOf(perOp [][]float64, sessions int) *TargetResult {
	return &TargetResult{Value: ratios(perOp[1], perOp[0]), Ours: sampleOf(perOp[0]), Base: sampleOf(perOp[1]), Sessions: sessions}
}

func updateTarget(ctx context.Context, _ jobArgs, p *population) (ours, base *timed) {
	seq := p.draw("uniform")
	return &timed{run: func(at, n int) error { return p.update(ctx, seq, at, n) }},
		&timed{run: func(at, n int) error { return p.updateRaw(seq, at, n) }}
}

func viewTarget(ctx context.Context, _ jobArgs, p *population) (ours, base *timed) {
	seq := p.draw("uniform")
	return &timed{run: func(at, n int) error { return p.view(ctx, seq, at, n) }},
		&timed{run: func(at, n int) error { return p.viewRaw(seq, at, n) }}
}

// allocationTarget counts allocations of the whole process per call, as testing.AllocsPerRun does: a whole
// number, so that what the flusher allocates once in a while does not count. The note has the fractions.
func allocationTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	p, err := populate(ctx, 1000, a.Dir)
	if err != nil {
		return nil, err
	}
	defer p.close()
	seq := p.draw("uniform")
	value := make([]byte, 8)
	calls := []struct {
		name string
		run  func(n int) error
	}{
		{"Update with Txn.Set of 8 bytes", func(n int) error {
			for i := range n {
				if err := p.engine.Update(ctx, seq[i&(sequence-1)], func(tx sessile.Txn) error { return tx.Set("csrf", value) }); err != nil {
					return err
				}
			}
			return nil
		}},
		{"Update with Key[int64].Set", func(n int) error { return p.update(ctx, seq, 0, n) }},
		{"View with Key[int64].Get", func(n int) error { return p.view(ctx, seq, 0, n) }},
	}
	const n = 200_000
	result := &TargetResult{Sessions: 1000}
	var most []float64
	for range a.Scale.Rounds {
		result.Note = ""
		worst := 0.0
		for _, c := range calls {
			// Calls between a View and an Update of the same session clone its state once; what is
			// asked for here is a streak of one kind, so each kind warms up.
			if err := c.run(10_000); err != nil {
				return nil, err
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if err := c.run(n); err != nil {
				return nil, err
			}
			runtime.ReadMemStats(&after)
			mallocs := after.Mallocs - before.Mallocs
			worst = max(worst, float64(mallocs/n))
			result.Note += fmt.Sprintf("%s: %.4f; ", c.name, float64(mallocs)/n)
		}
		most = append(most, worst)
	}
	result.Note += "the flusher's included"
	result.Value = sampleOf(most)
	result.Ours = result.Value
	return result, nil
}

// heapTarget makes the sessions once in each round, in memory.
func heapTarget(ctx context.Context, a jobArgs) (*TargetResult, error) {
	n := a.Scale.TargetMillion
	var perSession []float64
	for range a.Scale.Rounds {
		before := heapInUse()
		e, err := sessile.Open(sessile.Options{InMemory: true, MaxMemory: 16 << 30})
		if err != nil {
			return nil, err
		}
		for range n {
			if _, err := e.Create(ctx, fillCounter); err != nil {
				return nil, err
			}
		}
		perSession = append(perSession, (heapInUse()-before)/float64(n)-payload)
		if err := e.Close(); err != nil {
			return nil, err
		}
	}
	s := sampleOf(perSession)
	return &TargetResult{Value: s, Ours: s, Sessions: n}, nil
}

// heapInUse returns the bytes of live objects.
func heapInUse() float64 {
	runtime.GC()
	runtime.GC() // the second ends what finalizers and pools kept
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
