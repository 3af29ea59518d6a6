package main

import (
	"context"
	"runtime"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// An openLoop calls an operation at a fixed rate, whether earlier calls were slow or not, and counts
// each call's time from the moment it was due. So a stall shows in all the calls that it
// delayed (no coordinated omission).
type openLoop struct {
	interval time.Duration
	do       func(i int) error
	latency  *hdrhistogram.Histogram // nanoseconds
}

// A waiter is the clock of an open loop; tests have their own.
type waiter interface {
	now() time.Duration
	// wait returns when now is t or later.
	wait(t time.Duration)
}

func newOpenLoop(rate int, do func(i int) error) *openLoop {
	return &openLoop{interval: time.Second / time.Duration(rate), do: do, latency: newLatency()}
}

// newLatency holds 1 ns to 1 minute with three digits.
func newLatency() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute), 3)
}

// run makes the calls due within d.
func (o *openLoop) run(ctx context.Context, clock waiter, d time.Duration) error {
	start := clock.now()
	for i := 0; ; i++ {
		due := time.Duration(i) * o.interval
		if due >= d || i&1023 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		clock.wait(start + due)
		if err := o.do(i); err != nil {
			return err
		}
		took := clock.now() - start - due
		if err := o.latency.RecordValue(int64(min(max(took, 1), time.Minute))); err != nil {
			return err
		}
	}
}

// machineClock waits without sleeping through the moment: a sleep ends some 50 µs late.
type machineClock struct{ zero time.Time }

func (c machineClock) now() time.Duration { return time.Since(c.zero) }

func (c machineClock) wait(t time.Duration) {
	const early = 200 * time.Microsecond
	for {
		left := t - c.now()
		switch {
		case left <= 0:
			return
		case left > early:
			time.Sleep(left - early)
		default:
			runtime.Gosched() // others have work to do
		}
	}
}
