package main

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A stepClock moves only when someone waits or an operation takes time.
type stepClock struct{ t time.Duration }

func (c *stepClock) now() time.Duration { return c.t }
func (c *stepClock) wait(t time.Duration) {
	c.t = max(c.t, t)
}

// One stall of 100 ms at 1,000 calls a second delays the hundred calls that were due in it, and each
// of them shows that. Timed from when it began, only one call would.
func TestOpenLoopCountsDelays(t *testing.T) {
	clock := &stepClock{t: time.Hour}
	loop := newOpenLoop(1000, func(i int) error {
		if i == 10 {
			clock.t += 100 * time.Millisecond
		} else {
			clock.t += 10 * time.Microsecond
		}
		return nil
	})
	require.NoError(t, loop.run(context.Background(), clock, time.Second))
	assert.EqualValues(t, 1000, loop.latency.TotalCount(), "all calls due in a second")
	slow := 0
	for _, b := range loop.latency.Distribution() {
		if b.From >= int64(time.Millisecond) {
			slow += int(b.Count)
		}
	}
	assert.InDelta(t, 100, slow, 2, "calls delayed by the stall")
	assert.InDelta(t, 100e6, loop.latency.Max(), 1e6)
	assert.InDelta(t, 10e3, loop.latency.ValueAtQuantile(50), 100)
}

func TestOpenLoopStops(t *testing.T) {
	failure := errors.New("no")
	loop := newOpenLoop(1000, func(i int) error {
		if i == 3 {
			return failure
		}
		return nil
	})
	require.ErrorIs(t, loop.run(context.Background(), &stepClock{}, time.Hour), failure)

	ctx, cancel := context.WithCancel(context.Background())
	loop = newOpenLoop(1000, func(i int) error {
		if i == 5000 {
			cancel()
		}
		return nil
	})
	require.ErrorIs(t, loop.run(ctx, &stepClock{}, time.Hour), context.Canceled)
}

// The machine's clock waits until the moment, not less.
func TestMachineClock(t *testing.T) {
	c := machineClock{time.Now()}
	for _, d := range []time.Duration{0, 20 * time.Microsecond, 2 * time.Millisecond} {
		until := c.now() + d
		c.wait(until)
		assert.GreaterOrEqual(t, c.now(), until)
	}
}
