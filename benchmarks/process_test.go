package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What a child says before it dies is in the error.
func TestChildThatFails(t *testing.T) {
	p, err := start(context.Background(), "no such role")
	require.NoError(t, err)
	var a rowAnswer
	err = p.ask(rowSpec{}, &a)
	require.ErrorContains(t, err, `unknown role "no such role"`)
}

func TestRowsThatCannotBeOpened(t *testing.T) {
	e := &Env{Scale: tinyScale(), Data: t.TempDir()}
	run := &tableRun{env: e, table: Table{Regime: peers.Memory, Workload: workloads(peers.Memory, e.Scale)[0]}}
	row := run.open(context.Background(), e.Data, peers.Kind{Name: "nobody"})
	defer row.process.kill()
	assert.True(t, row.Failed)
	assert.Contains(t, row.Missing, `no peer "nobody"`)
	assert.Empty(t, run.running())
}

// A paused child does not answer until it goes on.
func TestPause(t *testing.T) {
	p, err := start(context.Background(), "row")
	require.NoError(t, err)
	defer p.kill()
	var a rowAnswer
	spec := rowSpec{Regime: peers.Memory, Peer: "xsync map + mutex", Dir: t.TempDir(),
		Workload: Workload{Sessions: 1, Size: payload, Draw: "one", Callers: 1, Op: change}}
	require.NoError(t, p.ask(spec, &a))
	require.Empty(t, a.Error)
	p.pause()
	require.Eventually(t, func() bool { return processState(t, p.cmd.Process.Pid) == 'T' }, 10*time.Second, time.Millisecond)
	answered := make(chan error, 1)
	go func() { answered <- p.ask(time.Millisecond, &a) }()
	select {
	case <-answered:
		t.Fatal("a stopped process answered")
	case <-time.After(20 * time.Millisecond): // that nothing comes can only be waited for
	}
	p.resume()
	require.NoError(t, <-answered)
	assert.Positive(t, a.Ops)
	require.NoError(t, p.finish())
}

// A child that does not answer is ended, and the error says so.
func TestChildThatDoesNotAnswer(t *testing.T) {
	p, err := start(context.Background(), "row")
	require.NoError(t, err)
	defer p.kill()
	p.pause()
	p.patience = 20 * time.Millisecond
	var a rowAnswer
	require.ErrorContains(t, p.ask(rowSpec{}, &a), "no answer in 20ms")
}

// A steady load may last longer than a child is otherwise waited for.
func TestSteadyLoadBeyondPatience(t *testing.T) {
	defer func(was time.Duration) { patience = was }(patience)
	patience = 5 * time.Second
	e := &Env{Scale: tinyScale(), Data: t.TempDir()}
	e.Scale.Steady = patience + time.Second
	s, err := runJob[Steady](context.Background(), e, "steady", nil)
	require.NoError(t, err)
	require.Positive(t, s.Updates)
	require.Zero(t, s.Lost)
}

// processState returns the letter of /proc, or 0.
func processState(t *testing.T, pid int) byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] == ')' && i+2 < len(b) {
			return b[i+2]
		}
	}
	return 0
}

// A kill ends the servers that a child started, too.
func TestKillEndsServers(t *testing.T) {
	if peers.RedisVersion() == "" {
		t.Skip("redis-server is not installed")
	}
	p, err := start(context.Background(), "row")
	require.NoError(t, err)
	var a rowAnswer
	spec := rowSpec{Regime: peers.WriteBehind, Peer: "redis, script", Dir: t.TempDir(),
		Workload: Workload{Sessions: 1, Size: payload, Draw: "one", Callers: 1, Op: change}}
	require.NoError(t, p.ask(spec, &a))
	require.Empty(t, a.Error)
	group := p.cmd.Process.Pid
	p.pause()
	p.kill()
	require.Eventually(t, func() bool { return errors.Is(syscall.Kill(-group, 0), syscall.ESRCH) }, 10*time.Second, time.Millisecond)
}

// A job's error arrives as an error.
func TestJobThatFails(t *testing.T) {
	e := &Env{Scale: tinyScale(), Data: t.TempDir()}
	_, err := runJob[GrowthPoint](context.Background(), e, "growth", growthQuestion{"no such dimension", 1})
	require.ErrorContains(t, err, "no dimension")
	_, err = runJob[GrowthPoint](context.Background(), e, "no such job", nil)
	require.ErrorContains(t, err, "no job")
}

// More sessions than fit into memory are a row that says so.
func TestGrowthBeyondMemory(t *testing.T) {
	if availableMemory() == 0 {
		t.Skip("this system does not say how much memory is free")
	}
	e := &Env{Scale: tinyScale(), Data: t.TempDir()}
	p, err := runJob[GrowthPoint](context.Background(), e, "growth", growthQuestion{bySessions, 1 << 40})
	require.NoError(t, err)
	assert.Contains(t, p.Missing, "needs about")
}
