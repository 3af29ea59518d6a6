package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// TestMain lets the test binary be the child processes of its tests.
func TestMain(m *testing.M) {
	if child() {
		return
	}
	os.Exit(m.Run())
}

// tinyScale shows that everything runs, and nothing about speed.
func tinyScale() Scale {
	return Scale{
		Name: "tiny", Rounds: 2, Slice: 4 * time.Millisecond, DurableSlice: 8 * time.Millisecond, Checkpoint: 20 * time.Millisecond,
		Sessions: 300, Million: 500, Large: 20, Cold: 2000,
		TargetSlice: 8 * time.Millisecond, TargetMillion: 2000, TargetDisk: 500, TargetRecovery: 500,
		LatencyRates: []int{2000}, LatencySessions: 300, LatencySlice: 50 * time.Millisecond,
		GrowthSessions: []int{100, 1000}, OpenSessions: []int{100},
		Steady: 200 * time.Millisecond, SteadySessions: 200, SteadyRate: 2000,
	}
}

// Every part runs, every row of every peer has figures, and the engine is right in all of them.
func TestEverythingRuns(t *testing.T) {
	scale := tinyScale()
	var told bytes.Buffer
	all := units(scale)
	r, err := measure(context.Background(), config{scale: scale, data: t.TempDir()}, all, &told)
	require.NoError(t, err)
	require.NoError(t, r.save(t.TempDir()))
	haveRedis := peers.RedisVersion() != ""
	for _, f := range r.Failures {
		t.Errorf("%s: %s", f.Part, f.Error)
	}
	for _, target := range r.Targets {
		if target.ID == "9" && !haveRedis {
			assert.Contains(t, target.Missing, "not installed")
			continue
		}
		assert.Empty(t, target.Missing, "target %s", target.ID)
		assert.Len(t, target.Value.Rounds, scale.Rounds, "target %s", target.ID)
		assert.Positive(t, max(target.Value.Max, 1-target.Goal), "target %s", target.ID) // only 4 may be 0
	}
	assert.Len(t, r.Targets, len(targets()))
	for _, table := range r.Tables {
		require.Len(t, table.Rows, len(peers.Kinds(table.Regime)))
		for _, row := range table.Rows {
			where := fmt.Sprintf("%s/%s: %s", table.Regime, table.Workload.Name, row.Peer)
			kind, _ := peers.Find(table.Regime, row.Peer)
			switch {
			case strings.HasPrefix(row.Peer, "redis") && !haveRedis, kind.InMemory && table.Workload.MaxMemory > 0, kind.WriteOnly && table.Workload.Op == login:
				assert.NotEmpty(t, row.Missing, where)
				assert.False(t, row.Failed, where)
				continue
			}
			assert.Empty(t, row.Missing, where)
			assert.Len(t, row.PerOp.Rounds, scale.Rounds, where)
			assert.Equal(t, !kind.WriteOnly, row.Totals.Counted, where)
			if lossy := kind.LoadsAndSaves; !lossy {
				assert.Zero(t, row.Totals.Lost, where)
			}
			assert.Zero(t, row.Totals.Torn, where)
		}
	}
	for _, w := range r.Web {
		if w.Counts && w.Name != engineWebName {
			assert.Greater(t, w.Lost, int64(100), w.Name)
		}
		assert.Positive(t, w.Allocs)
	}
	for _, l := range r.Latency {
		for _, c := range l.Calls {
			assert.Positive(t, c.Count, c.Name)
			assert.LessOrEqual(t, c.P50, c.Max)
		}
	}
	assert.Len(t, r.Growth, len(growthQuestions(scale)))
	assert.Positive(t, r.Steady.Written)
	assert.EqualValues(t, scale.Steady.Seconds()*float64(scale.SteadyRate), r.Steady.Updates)
	require.Len(t, r.Opens, 1)
	assert.Positive(t, r.Opens[0].LogBytes)
	if haveRedis {
		require.NoError(t, r.verdict())
	}
	assert.Equal(t, len(all), strings.Count(told.String(), " left, took "))
}

func TestCommandLine(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"-only", "no such part"}, {"-steady", "-1s"}, {"extra"}, {"-nonsense"}} {
		require.Error(t, run(context.Background(), args, new(bytes.Buffer), new(bytes.Buffer)), "%v", args)
	}
	var out bytes.Buffer
	require.NoError(t, run(context.Background(), []string{"-list", "-only", "^table/memory"}, &out, new(bytes.Buffer)))
	assert.Equal(t, len(workloads(peers.Memory, fullScale())), strings.Count(out.String(), "\n"))

	c, err := parse([]string{"-quick", "-steady", "1h"}, new(bytes.Buffer))
	require.NoError(t, err)
	assert.Equal(t, "quick", c.scale.Name)
	assert.Equal(t, time.Hour, c.scale.Steady)
	assert.Equal(t, filepath.Join("..", "docs", "benchmarks"), c.out)
	c, err = parse([]string{"-only", "web"}, new(bytes.Buffer))
	require.NoError(t, err)
	assert.Empty(t, c.out, "a part does not replace the whole report")
}

// A run that is interrupted leaves neither data nor processes.
func TestInterrupt(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	scale := tinyScale()
	data := t.TempDir()
	ran := 0
	todo := []unit{
		{name: "first", run: func(context.Context, *Env, *Report) error { ran++; cancel(); return nil }},
		{name: "second", run: func(ctx context.Context, e *Env, _ *Report) error {
			ran++
			_, err := runTable(ctx, e, peers.Memory, workloads(peers.Memory, scale)[0])
			return err
		}},
	}
	_, err := measure(ctx, config{scale: scale, data: data}, todo, new(bytes.Buffer))
	require.ErrorIs(t, err, context.Canceled)
	assert.Equal(t, 2, ran)
	left, err := os.ReadDir(data)
	require.NoError(t, err)
	assert.Empty(t, left)
}

func TestProgress(t *testing.T) {
	now := time.Unix(0, 0)
	var out bytes.Buffer
	todo := []unit{{name: "a", guess: time.Second}, {name: "b", guess: 3 * time.Second}}
	p := newProgress(&out, todo, func() time.Time { return now })
	p.begin(todo[0])
	now = now.Add(2 * time.Second) // twice as long as guessed
	p.end(todo[0])
	p.begin(todo[1])
	assert.Contains(t, out.String(), "1/2  a")
	assert.Contains(t, out.String(), "about      4s left, took 2.0 s\n")
	assert.Contains(t, out.String(), "00:02    2/2  b")
	assert.Contains(t, out.String(), "about      6s left")
}
