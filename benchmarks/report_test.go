package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sessile-go/sessile/benchmarks/peers"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// sampleReport has something of everything.
func sampleReport() *Report {
	s := func(v float64) Sample { return sampleOf([]float64{v, 2 * v, v / 2}) }
	r := &Report{Machine: Machine{CPU: "a | b", Versions: map[string]string{"m": "v1"}}, Scale: quickScale()}
	for _, t := range targets() {
		if t.measure != nil {
			r.Targets = append(r.Targets, TargetRow{Target: t, TargetResult: TargetResult{Value: s(t.Goal), Ours: s(1), Base: s(2), Sessions: 1000}})
		}
	}
	for _, regime := range []peers.Regime{peers.Memory, peers.WriteBehind, peers.Durable} {
		for _, w := range workloads(regime, r.Scale) {
			t := Table{Regime: regime, Workload: w}
			for i, k := range peers.Kinds(regime) {
				t.Rows = append(t.Rows, Row{Peer: k.Name, PerOp: s(float64(100 * (i + 1))), Ratio: s(1), Totals: Totals{Changes: 1234567, Counted: true}})
			}
			r.Tables = append(r.Tables, t)
		}
	}
	r.Web = []WebRow{{Name: engineWebName, PerOp: s(1000), Counts: true}}
	r.Latency = []LatencyRun{{Sessions: 1000, Rate: 100, Ratio: s(1.5), Calls: []LatencyCall{
		{callRaw, 100, 50, 100, 1000, 2000}, {callView, 100, 60, 110, 1500, 3000},
	}}}
	for _, q := range growthQuestions(r.Scale) {
		r.Growth = append(r.Growth, GrowthPoint{Dimension: q.Dimension, Value: q.Value, Update: s(100), RawUpdate: s(20), View: s(40), RawView: s(10), Alternate: s(300)})
	}
	r.Opens = []OpenTime{{Sessions: 1000}}
	r.Steady = &Steady{For: time.Second, Samples: []SteadySample{{0, 0, 1e6}, {time.Second, 1e6, 2e6}}}
	r.finish()
	return r
}

func TestReportIsSavedInAllForms(t *testing.T) {
	r := sampleReport()
	dir := filepath.Join(t.TempDir(), "out")
	require.NoError(t, r.save(dir))
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(b)
	}
	var back Report
	require.NoError(t, json.Unmarshal([]byte(read("report.json")), &back))
	assert.Equal(t, r.Tables, back.Tables)
	require.Len(t, back.Targets, len(targets()))
	for i, row := range back.Targets {
		assert.Equal(t, r.Targets[i].Title, row.Title)
		assert.Equal(t, r.Targets[i].TargetResult, row.TargetResult)
		assert.Equal(t, r.Targets[i].OursUnit, row.OursUnit)
	}
	text, markdown := read("report.txt"), read("results.md")
	for _, want := range []string{"Targets", "write-behind / A", "1,234,567", "Latency", "Growth: bytes", "Steady load"} {
		assert.Contains(t, text, want)
		assert.Contains(t, markdown, want)
	}
	assert.Contains(t, markdown, `a \| b`)
	for line := range strings.Lines(text) {
		assert.NotRegexp(t, ` \n$`, line, "no space at an end")
	}

	// Each picture that the Markdown shows is there and is SVG with something in it, and no other is.
	pictures, err := filepath.Glob(filepath.Join(dir, "*.svg"))
	require.NoError(t, err)
	assert.Len(t, pictures, strings.Count(markdown, ".svg"))
	for _, p := range pictures {
		assert.Contains(t, markdown, "("+filepath.Base(p)+")")
		assert.Greater(t, svgShapes(t, read(filepath.Base(p))), 10, p)
	}
}

// svgShapes parses a picture and counts its shapes.
func svgShapes(t *testing.T, content string) (shapes int) {
	t.Helper()
	for d := xml.NewDecoder(strings.NewReader(content)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return shapes
		}
		require.NoError(t, err)
		if e, ok := token.(xml.StartElement); ok && (e.Name.Local == "path" || e.Name.Local == "text") {
			shapes++
		}
		assert.NotContains(t, content, "NaN")
	}
}

// Target 11 comes from the latency, and stands in its place.
func TestTargetOfLatency(t *testing.T) {
	r := sampleReport()
	var ids []string
	for i, row := range r.Targets {
		ids = append(ids, row.ID)
		if row.ID == "11" {
			assert.InDelta(t, 1.5, r.Targets[i].Value.Median, 1e-9)
			assert.InDelta(t, 1500, row.Ours.Median, 0)
			assert.InDelta(t, 1000, row.Base.Median, 0)
		}
	}
	assert.Equal(t, []string{"1", "2", "3a", "3b", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13"}, ids)
}

func TestMet(t *testing.T) {
	cost := TargetRow{Target: Target{Goal: 4, Moonshot: 2, AtMost: true}, TargetResult: TargetResult{Value: sampleOf([]float64{3})}}
	assert.Equal(t, "yes", metText(cost))
	cost.Value = sampleOf([]float64{2})
	assert.Equal(t, "moonshot", metText(cost))
	cost.Value = sampleOf([]float64{4.1})
	assert.Equal(t, "no", metText(cost))
	speed := TargetRow{Target: Target{Goal: 25, Moonshot: 60}, TargetResult: TargetResult{Value: sampleOf([]float64{26})}}
	assert.Equal(t, "yes", metText(speed))
	speed.Missing = "x"
	assert.False(t, speed.met(25))
}

func TestVerdict(t *testing.T) {
	require.NoError(t, sampleReport().verdict())
	for name, spoil := range map[string]func(*Report){
		"lost":         func(r *Report) { r.Tables[0].Rows[0].Totals.Lost = 1 },
		"too often":    func(r *Report) { r.Tables[0].Rows[0].Totals.Lost = -1 },
		"torn":         func(r *Report) { r.Tables[3].Rows[0].Totals.Torn = 1 },
		"web":          func(r *Report) { r.Web[0].Lost = 1 },
		"steady":       func(r *Report) { r.Steady.Lost = 1 },
		"failed row":   func(r *Report) { r.Tables[0].Rows[2].Failed = true },
		"target":       func(r *Report) { r.Targets[0].Missing = "x" },
		"not measured": func(r *Report) { r.Failures = []Failure{{"x", "y"}} },
	} {
		r := sampleReport()
		spoil(r)
		require.Error(t, r.verdict(), name)
	}
	// Peers may lose, and one that cannot be had is a fact, not an error.
	r := sampleReport()
	r.Tables[0].Rows[1].Totals.Lost, r.Tables[0].Rows[2].Missing = 7, "not installed"
	require.NoError(t, r.verdict())
}

func TestFigures(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.1234: "0.123", 1.234: "1.23", 12.34: "12.3", 123.4: "123", 1234567: "1,234,567", -1234: "-1,234",
	} {
		assert.Equal(t, want, number(v))
	}
	assert.Equal(t, "1.50 µs", duration(1500))
	assert.Equal(t, "2.00 s", duration(2e9))
	assert.Equal(t, "1.50 MB", size(1.5e6))
	assert.Equal(t, "12 B", size(12))
	assert.Equal(t, "–", spread(Sample{}))
}
