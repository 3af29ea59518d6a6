package main

import (
	"fmt"
	"io"
	"time"
)

// progress tells what is being measured, how long it took, and how long the rest will take. It guesses by the
// units' own guesses, and by how wrong those have been so far.
type progress struct {
	out   io.Writer
	start time.Time
	began time.Time // the unit
	now   func() time.Time
	left  time.Duration // guessed
	done  time.Duration // guessed, of what is over
	n, of int
}

func newProgress(out io.Writer, units []unit, now func() time.Time) *progress {
	p := &progress{out: out, start: now(), now: now, of: len(units)}
	for _, u := range units {
		p.left += u.guess
	}
	return p
}

// begin tells of a unit, on a line that end ends.
func (p *progress) begin(u unit) {
	p.n++
	p.began = p.now()
	fmt.Fprintf(p.out, "%s  %3d/%d  %-34s about %7s left",
		clockText(p.began.Sub(p.start)), p.n, p.of, u.name, p.eta().Round(time.Second))
}

// end counts a unit as done.
func (p *progress) end(u unit) {
	fmt.Fprintf(p.out, ", took %.1f s\n", p.now().Sub(p.began).Seconds())
	p.left -= u.guess
	p.done += u.guess
}

// eta returns the time that the rest will take.
func (p *progress) eta() time.Duration {
	took := p.now().Sub(p.start)
	if p.done <= 0 {
		return p.left
	}
	return time.Duration(float64(p.left) * float64(took) / float64(p.done))
}

func clockText(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d", s/60, s%60)
}
