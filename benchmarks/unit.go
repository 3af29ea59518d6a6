package main

import (
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
)

// Env is what all measurements share.
type Env struct {
	Scale    Scale
	Data     string // a directory of ours for all data
	Profiles string // the directory for CPU profiles; empty: none are made
}

// A unit is a part of the run that can be asked for alone.
type unit struct {
	name  string
	guess time.Duration // how long it takes, for the estimate of what is left
	run   func(context.Context, *Env, *Report) error
}

// units returns all parts, in the order in which they run.
func units(s Scale) []unit {
	var all []unit
	for _, t := range targets() {
		if t.measure == nil {
			continue
		}
		all = append(all, unit{"target/" + t.ID, targetGuess(s), func(ctx context.Context, e *Env, r *Report) error {
			result, err := runJob[TargetResult](ctx, e, "target "+t.ID, nil)
			row := TargetRow{Target: t, TargetResult: result}
			if err != nil {
				row.Missing = err.Error()
			}
			r.Targets = append(r.Targets, row)
			return ctx.Err()
		}})
	}
	for _, regime := range []peers.Regime{peers.Memory, peers.WriteBehind, peers.Durable} {
		for _, w := range workloads(regime, s) {
			all = append(all, unit{"table/" + string(regime) + "/" + w.Name, tableGuess(s, regime, w), func(ctx context.Context, e *Env, r *Report) error {
				t, err := runTable(ctx, e, regime, w)
				r.Tables = append(r.Tables, t)
				return err
			}})
		}
	}
	all = append(all, unit{"web", time.Duration(s.Rounds)*5*s.Slice + 3*time.Second, func(ctx context.Context, e *Env, r *Report) (err error) {
		r.Web, err = runJob[[]WebRow](ctx, e, "web", nil)
		return err
	}})
	for _, sessions := range []int{s.LatencySessions, 10 * s.LatencySessions} {
		for _, rate := range s.LatencyRates {
			guess := time.Duration(s.Rounds)*s.LatencySlice + time.Duration(sessions)*5*time.Microsecond
			all = append(all, unit{fmt.Sprintf("latency/%d/%d", sessions, rate), guess, func(ctx context.Context, e *Env, r *Report) error {
				run, err := runJob[LatencyRun](ctx, e, "latency", latencyQuestion{sessions, rate})
				if err == nil {
					r.Latency = append(r.Latency, run)
				}
				return err
			}})
		}
	}
	for _, q := range growthQuestions(s) {
		guess := time.Duration(s.Rounds+4)*5*s.Slice/2 + time.Duration(q.sessions())*8*time.Microsecond
		all = append(all, unit{fmt.Sprintf("growth/%s/%d", q.Dimension, q.Value), guess, func(ctx context.Context, e *Env, r *Report) error {
			p, err := runJob[GrowthPoint](ctx, e, "growth", q)
			if err == nil {
				r.Growth = append(r.Growth, p)
			}
			return err
		}})
	}
	for _, n := range s.OpenSessions {
		all = append(all, unit{fmt.Sprintf("open/%d", n), time.Second + time.Duration(n)*20*time.Microsecond, func(ctx context.Context, e *Env, r *Report) error {
			o, err := runJob[OpenTime](ctx, e, "open", n)
			if err == nil {
				r.Opens = append(r.Opens, o)
			}
			return err
		}})
	}
	return append(all, unit{"steady", s.Steady + 3*time.Second, func(ctx context.Context, e *Env, r *Report) error {
		st, err := runJob[Steady](ctx, e, "steady", nil)
		if err == nil {
			r.Steady = &st
		}
		return err
	}})
}

func (q growthQuestion) sessions() int {
	s, err := q.shape()
	if err != nil {
		return 0
	}
	return s.sessions
}

func targetGuess(s Scale) time.Duration {
	return time.Duration(s.Rounds+2)*2*s.TargetSlice + 4*time.Second
}

func tableGuess(s Scale, r peers.Regime, w Workload) time.Duration {
	n := time.Duration(len(peers.Kinds(r)))
	return n * (time.Duration(s.Rounds)*w.Slice*11/10 + 300*time.Millisecond + time.Duration(w.Sessions)*8*time.Microsecond)
}

// selected returns the units whose name matches.
func selected(all []unit, only *regexp.Regexp) []unit {
	if only == nil {
		return all
	}
	var some []unit
	for _, u := range all {
		if only.MatchString(u.name) {
			some = append(some, u)
		}
	}
	return some
}
