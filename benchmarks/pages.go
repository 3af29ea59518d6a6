package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sessile-go/sessile/benchmarks/peers"
)

// Names under which Sessile stands in the tables.
const (
	engineName    = "sessile"
	engineWebName = "sessionhttp"
)

// grids lays the report out.
func (r *Report) grids() []*grid {
	all := []*grid{r.machineGrid()}
	if len(r.Targets) > 0 {
		all = append(all, r.targetGrid())
	}
	for _, regime := range []peers.Regime{peers.Memory, peers.WriteBehind, peers.Durable} {
		all = append(all, r.regimeGrids(regime)...)
	}
	if len(r.Web) > 0 {
		all = append(all, r.webGrid())
	}
	for _, l := range r.Latency {
		all = append(all, latencyGrid(l))
	}
	all = append(all, r.growthGrids()...)
	if len(r.Opens) > 0 {
		all = append(all, r.openGrid())
	}
	if r.Steady != nil {
		all = append(all, r.Steady.grid())
	}
	if len(r.Failures) > 0 {
		g := &grid{title: "Not measured", header: []string{"part", "error"}, words: 1}
		for _, f := range r.Failures {
			g.add(f.Part, f.Error)
		}
		all = append(all, g)
	}
	return all
}

func (r *Report) machineGrid() *grid {
	m := r.Machine
	g := &grid{title: "Machine", header: []string{"what", "value"}, words: 1}
	for _, line := range [][2]string{
		{"run", fmt.Sprintf("%s, %d rounds, took %s", r.Scale.Name, r.Scale.Rounds, r.Took)},
		{"processor", m.CPU}, {"cores", fmt.Sprint(m.Cores)}, {"memory", size(m.Memory)},
		{"kernel", m.Kernel}, {"file system", m.FileSystem}, {"Go", m.Go + " " + m.OS},
	} {
		g.add(line[0], line[1])
	}
	names := make([]string, 0, len(m.Versions))
	for n := range m.Versions {
		names = append(names, n)
	}
	slices.Sort(names)
	for _, n := range names {
		g.add(n, m.Versions[n])
	}
	if m.FileSystem == "tmpfs" {
		g.notes = append(g.notes, "The data lay on tmpfs: what waits for the disk waits for nothing. Use -data.")
	}
	if r.Partial {
		g.notes = append(g.notes, "Only a part was measured (-only).")
	}
	return g
}

func (r *Report) targetGrid() *grid {
	g := &grid{
		title: "Targets", words: 1, header: []string{"#", "what", "sessions", "measured", "range", "target", "moonshot", "met", "Sessile", "base"},
		notes: []string{"Medians of the rounds; each side ran in turn within each round. Sessile is the figure of Sessile's side, base that of the other one."},
		chart: "targets.svg",
	}
	for _, t := range r.Targets {
		if t.Missing != "" {
			g.add(t.ID, t.Title, "–", "–", t.Missing, bound(t, t.Goal), bound(t, t.Moonshot), "–", "–", "–")
			continue
		}
		g.add(t.ID, t.Title, count(int64(t.Sessions)), middle(t.Value), spread(t.Value), bound(t, t.Goal), bound(t, t.Moonshot),
			metText(t), middle(t.Ours)+" "+t.OursUnit, strings.TrimSpace(middle(t.Base)+" "+t.BaseUnit))
	}
	for _, t := range r.Targets {
		if t.Note != "" {
			g.notes = append(g.notes, fmt.Sprintf("%s: %s.", t.ID, t.Note))
		}
	}
	return g
}

func bound(t TargetRow, v float64) string {
	if t.AtMost {
		return "≤ " + number(v)
	}
	return "≥ " + number(v)
}

func metText(t TargetRow) string {
	switch {
	case t.met(t.Moonshot):
		return "moonshot"
	case t.met(t.Goal):
		return "yes"
	}
	return "no"
}

// regimeGrids are the tables of one regime, after a list of how its peers are configured.
func (r *Report) regimeGrids(regime peers.Regime) []*grid {
	var all []*grid
	for _, t := range r.Tables {
		if t.Regime == regime {
			all = append(all, t.grid())
		}
	}
	if len(all) == 0 {
		return nil
	}
	head := &grid{
		title:  fmt.Sprintf("Regime: %s", regime),
		notes:  []string{regimeNote[regime], "Rows of different regimes must not be compared."},
		header: []string{"peer", "configuration"}, words: 1,
		chart: chartName(regime),
	}
	for _, k := range peers.Kinds(regime) {
		head.add(k.Name, k.Notes[regime])
	}
	return append([]*grid{head}, all...)
}

var regimeNote = map[peers.Regime]string{
	peers.Memory:      "Nothing survives the process.",
	peers.WriteBehind: "A change is acknowledged in memory and on disk soon after; a crash loses the newest ones.",
	peers.Durable:     "A change is acknowledged when it is on disk.",
}

func (t Table) grid() *grid {
	w := t.Workload
	g := &grid{
		title: fmt.Sprintf("%s / %s", t.Regime, w.Name),
		notes: []string{fmt.Sprintf("%s. %s sessions of %s bytes, %d goroutines.", w.Title, count(int64(w.Sessions)), count(int64(w.Size)), w.Callers)},
		header: []string{"peer", "ns/op", "range", "÷ Sessile", "range", "ops/s", "changes", "reads",
			"lost", "torn"},
	}
	if w.Op == churn {
		g.notes[0] = fmt.Sprintf("%s. %s bytes each, %d goroutines; an operation is one session's life.", w.Title, count(int64(w.Size)), w.Callers)
	}
	if w.MaxMemory > 0 {
		g.notes = append(g.notes, fmt.Sprintf("Sessile and Pebble may keep %s in memory; Badger and bbolt map their files, the page cache is not bounded.", size(w.MaxMemory)))
	}
	if w.Checkpoint > 0 {
		g.notes = append(g.notes, fmt.Sprintf("Sessile's checkpoints every %s.", w.Checkpoint))
	}
	for _, row := range t.Rows {
		if row.Missing != "" {
			g.add(row.Peer, row.Missing, "", "", "", "", "", "", "", "")
			continue
		}
		lost, torn := "–", "–"
		if row.Totals.Counted {
			lost, torn = count(row.Totals.Lost), count(row.Totals.Torn)
		}
		g.add(row.Peer, middle(row.PerOp), spread(row.PerOp), middle(row.Ratio), spread(row.Ratio),
			number(1e9/row.PerOp.Median), count(row.Totals.Changes), count(row.Totals.Reads), lost, torn)
	}
	return g
}

func (r *Report) webGrid() *grid {
	g := &grid{
		title: "Web",
		notes: []string{fmt.Sprintf("A handler of net/http that only reads the session, called directly, one request after another; then %d increments of one browser "+
			"from %d clients at once, %s of work in the handler, over connections.", webIncrements, webClients, webWork)},
		header: []string{"stack", "ns/request", "range", "allocations", fmt.Sprintf("lost of %d", webIncrements)},
	}
	for _, w := range r.Web {
		lost := "–"
		if w.Counts {
			lost = count(w.Lost)
		}
		g.add(w.Name, middle(w.PerOp), spread(w.PerOp), number(w.Allocs), lost)
	}
	return g
}

func latencyGrid(l LatencyRun) *grid {
	g := &grid{
		title: fmt.Sprintf("Latency: %s sessions, %s calls a second of each kind", count(int64(l.Sessions)), count(int64(l.Rate))),
		notes: []string{
			fmt.Sprintf("Open loop: a call's time counts from the moment it was due. Meanwhile: %d flushes, %d checkpoints, %d evictions, %d loads from disk, %s sessions created.",
				l.Flushes, l.Checkpoints, l.Evictions, l.Loads, count(int64(l.Created))),
			fmt.Sprintf("p99.9 of View ÷ p99.9 of the raw read, round by round: median %s, range %s.", middle(l.Ratio), spread(l.Ratio)),
		},
		header: []string{"call", "calls", "p50", "p99", "p99.9", "max"},
		chart:  latencyChart(l),
	}
	for _, c := range l.Calls {
		g.add(c.Name, count(c.Count), duration(float64(c.P50)), duration(float64(c.P99)), duration(float64(c.P999)), duration(float64(c.Max)))
	}
	return g
}

var dimensions = []string{bySessions, byFields, byBytes, byGoroutines, byHotShare}

var dimensionNote = map[string]string{
	bySessions:   "4 fields of 300 bytes in all, one goroutine, uniform.",
	byFields:     "1,000 sessions, one goroutine; one field is changed or read.",
	byBytes:      "1,000 sessions, 4 fields, one goroutine; 8 bytes are changed or read. The raw session has 300 bytes.",
	byGoroutines: "1,000 sessions, uniform; wall time ÷ operations of all goroutines.",
	byHotShare:   "100,000 sessions, 4 goroutines; that many of a hundred accesses go to 10 sessions.",
}

func (r *Report) growthGrids() (all []*grid) {
	for _, d := range dimensions {
		g := &grid{
			title: "Growth: " + d,
			notes: []string{dimensionNote[d] + " In memory. Alternating is a View and an Update of the same session, whose state is then copied once; " +
				"the collector's share is measured over that."},
			header: []string{d, "Update, ns", "raw, ns", "÷", "View, ns", "raw, ns", "÷", "alternating, ns", "heap beyond the payload, B", "GC share, %", "full GC, ms"},
			chart:  growthChart(d),
		}
		for _, p := range r.Growth {
			if p.Dimension != d {
				continue
			}
			if p.Missing != "" {
				g.add(count(int64(p.Value)), p.Missing, "", "", "", "", "", "", "", "", "")
				continue
			}
			g.add(count(int64(p.Value)), middle(p.Update), middle(p.RawUpdate), middle(ratios(p.Update.Rounds, p.RawUpdate.Rounds)),
				middle(p.View), middle(p.RawView), middle(ratios(p.View.Rounds, p.RawView.Rounds)), middle(p.Alternate),
				number(p.Heap), number(100*p.GCShare), number(p.GCCycle))
		}
		if len(g.rows) > 0 {
			all = append(all, g)
		}
	}
	return all
}

func (r *Report) openGrid() *grid {
	g := &grid{
		title:  "Opening",
		notes:  []string{"After a Close, and after a kill with a tenth of the sessions updated; files in the page cache. One opening each."},
		header: []string{"sessions", "on disk", "clean: Open", "first Update", "log left by the kill", "killed: Open", "first Update"},
	}
	for _, o := range r.Opens {
		g.add(count(int64(o.Sessions)), size(o.Disk), duration(float64(o.Clean.Open)), duration(float64(o.Clean.Update)),
			size(o.LogBytes), duration(float64(o.Crash.Open)), duration(float64(o.Crash.Update)))
	}
	return g
}

func (s *Steady) grid() *grid {
	g := &grid{
		title: "Steady load",
		notes: []string{
			fmt.Sprintf("%s Updates a second of an 8-byte value for %s, zipf 0.99 over %s sessions (%s of keys and values), checkpoints every %s.",
				count(int64(s.Rate)), s.For, count(int64(s.Sessions)), size(s.Filled), s.Checkpoint),
			fmt.Sprintf("%s Updates, %d lost. %s set, %s of log written, %s written to the disk in all: %s bytes for each byte set, %s for each Update. %d checkpoints. The latest call was %s late.",
				count(s.Updates), s.Lost, size(s.Logical), size(s.Groups), size(s.Written),
				number(float64(s.Written)/float64(max(1, s.Logical))), number(float64(s.Written)/float64(max(1, s.Updates))), s.Checkpoints, duration(float64(s.Behind))),
		},
		header: []string{"after", "log", "directory"},
		chart:  "steady.svg",
	}
	for _, sample := range s.Samples {
		g.add(fmt.Sprintf("%.1f s", sample.At.Seconds()), size(sample.Log), size(sample.Disk))
	}
	return g
}
