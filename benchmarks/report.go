package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A Report is everything a run found.
type Report struct {
	Machine  Machine       `json:"machine"`
	Scale    Scale         `json:"scale"`
	Partial  bool          `json:"partial,omitempty"` // made with -only
	Took     time.Duration `json:"took"`
	Targets  []TargetRow   `json:"targets"`
	Tables   []Table       `json:"tables"`
	Web      []WebRow      `json:"web"`
	Latency  []LatencyRun  `json:"latency"`
	Growth   []GrowthPoint `json:"growth"`
	Opens    []OpenTime    `json:"opens"`
	Steady   *Steady       `json:"steady,omitempty"`
	Failures []Failure     `json:"failures,omitempty"`
}

// A Failure is a part that could not be measured.
type Failure struct {
	Part  string `json:"part"`
	Error string `json:"error"`
}

// finish adds what follows from several parts: target 11, whose figures are the latency's.
func (r *Report) finish() {
	if len(r.Latency) == 0 {
		return
	}
	all := targets()
	at := slices.IndexFunc(all, func(t Target) bool { return t.ID == "11" })
	l := r.Latency[0]
	row := TargetRow{Target: all[at], TargetResult: TargetResult{
		Value: l.Ratio, Sessions: l.Sessions,
		Note: fmt.Sprintf("%d calls a second of each kind; the other rates and sizes are under latency", l.Rate),
	}}
	for _, c := range l.Calls {
		s := sampleOf([]float64{float64(c.P999)})
		switch c.Name {
		case callRaw:
			row.Base = s
		case callView:
			row.Ours = s
		}
	}
	before := slices.IndexFunc(r.Targets, func(t TargetRow) bool { return t.ID == "12" || t.ID == "13" })
	if before < 0 {
		before = len(r.Targets)
	}
	r.Targets = slices.Insert(r.Targets, before, row)
}

// verdict is an error if Sessile was wrong somewhere, or something is missing.
func (r *Report) verdict() error {
	var wrong []error
	for _, t := range r.Tables {
		for _, row := range t.Rows {
			where := fmt.Sprintf("%s, %s, %s", t.Regime, t.Workload.Name, row.Peer)
			if row.Failed {
				wrong = append(wrong, fmt.Errorf("%s: %s", where, row.Missing))
			}
			if row.Peer == engineName && (row.Totals.Lost != 0 || row.Totals.Torn != 0) {
				wrong = append(wrong, fmt.Errorf("%s: %d updates lost, %d reads torn", where, row.Totals.Lost, row.Totals.Torn))
			}
		}
	}
	for _, w := range r.Web {
		if w.Name == engineWebName && w.Lost != 0 {
			wrong = append(wrong, fmt.Errorf("web: %d of %d increments lost", w.Lost, webIncrements))
		}
	}
	if s := r.Steady; s != nil && s.Lost != 0 {
		wrong = append(wrong, fmt.Errorf("steady load: %d updates lost", s.Lost))
	}
	for _, t := range r.Targets {
		if t.Missing != "" {
			wrong = append(wrong, fmt.Errorf("target %s: %s", t.ID, t.Missing))
		}
	}
	for _, f := range r.Failures {
		wrong = append(wrong, fmt.Errorf("%s: %s", f.Part, f.Error))
	}
	return errors.Join(wrong...)
}

// save writes the report in all its forms.
func (r *Report) save(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var text, markdown strings.Builder
	if err := errors.Join(r.writeText(&text), r.writeMarkdown(&markdown)); err != nil {
		return err
	}
	js, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	for name, content := range map[string]string{"report.txt": text.String(), "results.md": markdown.String(), "report.json": string(js) + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			return err
		}
	}
	return r.saveCharts(dir)
}

func (r *Report) writeText(w io.Writer) error {
	for _, g := range r.grids() {
		if err := g.writeText(w); err != nil {
			return err
		}
	}
	return nil
}

func (r *Report) writeMarkdown(w io.Writer) error {
	_, err := fmt.Fprintln(w, "# Results\n\nWritten by `go run -C benchmarks .`; how to read it is in [benchmarks.md](../benchmarks.md).")
	for _, g := range r.grids() {
		err = errors.Join(err, g.writeMarkdown(w))
	}
	return err
}
