package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
)

// A Table is all peers of one regime under one workload.
type Table struct {
	Regime   peers.Regime `json:"regime"`
	Workload Workload     `json:"workload"`
	Rows     []Row        `json:"rows"`
}

// A Row is one peer of a table.
type Row struct {
	Peer    string `json:"peer"`
	PerOp   Sample `json:"ns_per_op"` // wall time ÷ operations of all callers
	Ratio   Sample `json:"ratio"`     // this row ÷ Sessile's, round by round
	Totals  Totals `json:"totals"`
	Missing string `json:"missing,omitempty"` // why there are no figures
	Failed  bool   `json:"failed,omitempty"`  // Missing is an error, not a fact
	process *process
}

// tableRun measures one table: it fills all peers, each in its process, stops the processes, and then
// lets one at a time go on, in each round in another order. A peer's work in the background, such as a flush or a
// compaction, thus falls into its own time and never into another's.
type tableRun struct {
	env   *Env
	table Table
	rows  []*Row
}

func runTable(ctx context.Context, e *Env, r peers.Regime, w Workload) (Table, error) {
	t := &tableRun{env: e, table: Table{Regime: r, Workload: w}}
	base, err := os.MkdirTemp(e.Data, "table-")
	if err != nil {
		return t.table, err
	}
	defer os.RemoveAll(base)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer func() {
		for _, row := range t.rows {
			if row.process != nil {
				row.process.kill()
			}
		}
	}()
	for _, k := range peers.Kinds(r) {
		t.rows = append(t.rows, t.open(ctx, base, k))
		if ctx.Err() != nil {
			return t.table, ctx.Err()
		}
	}
	for _, row := range t.running() {
		row.process.pause()
	}
	for round := range e.Scale.Rounds {
		running := t.running()
		for i := range running {
			t.round(running[(i+round)%len(running)])
		}
		if ctx.Err() != nil {
			return t.table, ctx.Err()
		}
	}
	for _, row := range t.running() {
		t.finish(row)
	}
	return t.result(), ctx.Err()
}

// open starts the process of a peer and has it filled.
func (t *tableRun) open(ctx context.Context, base string, k peers.Kind) *Row {
	row := &Row{Peer: k.Name}
	w := t.table.Workload
	switch {
	case k.InMemory && w.MaxMemory > 0:
		row.Missing = "keeps every session in memory"
		return row
	case k.WriteOnly && (w.Reads > 0 || w.Op == login):
		row.Missing = "has nothing to read"
		return row
	}
	fail := func(err error) *Row {
		row.Missing, row.Failed = err.Error(), true
		return row
	}
	dir, err := os.MkdirTemp(base, "peer-")
	if err != nil {
		return fail(err)
	}
	if row.process, err = start(ctx, "row"); err != nil {
		row.process = nil
		return fail(err)
	}
	var a rowAnswer
	if err := row.process.ask(rowSpec{t.table.Regime, k.Name, w, dir}, &a); err != nil {
		return fail(err)
	}
	if a.Error != "" {
		row.Missing, row.Failed = a.Error, !a.Unavailable
	}
	return row
}

// running returns the rows that are being measured.
func (t *tableRun) running() (rows []*Row) {
	for _, r := range t.rows {
		if r.Missing == "" {
			rows = append(rows, r)
		}
	}
	return rows
}

func (t *tableRun) ask(row *Row, d time.Duration) (a rowAnswer) {
	row.process.resume()
	err := row.process.ask(d, &a)
	row.process.pause()
	if err == nil && a.Error != "" {
		err = fmt.Errorf("%s", a.Error)
	}
	if err != nil {
		row.Missing, row.Failed = err.Error(), true
	}
	return a
}

func (t *tableRun) round(row *Row) {
	a := t.ask(row, t.table.Workload.Slice)
	if row.Missing == "" && a.Ops == 0 {
		row.Missing, row.Failed = "did nothing in a round", true
	}
	if row.Missing == "" {
		row.PerOp.Rounds = append(row.PerOp.Rounds, float64(a.Time)/float64(a.Ops))
	}
}

func (t *tableRun) finish(row *Row) {
	a := t.ask(row, 0)
	row.process.resume()
	if err := row.process.finish(); err != nil && row.Missing == "" {
		row.Missing, row.Failed = err.Error(), true
	}
	if a.Totals != nil {
		row.Totals = *a.Totals
	}
}

func (t *tableRun) result() Table {
	for _, row := range t.rows {
		row.PerOp = sampleOf(row.PerOp.Rounds)
		row.Ratio = ratios(row.PerOp.Rounds, t.rows[0].PerOp.Rounds)
		t.table.Rows = append(t.table.Rows, *row)
	}
	return t.table
}
