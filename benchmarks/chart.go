package main

import (
	"fmt"
	"image/color"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sessile-go/sessile/benchmarks/peers"
	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
)

const (
	chartWidth  = 22 * vg.Centimeter
	chartHeight = 12 * vg.Centimeter
)

func chartName(r peers.Regime) string { return "regime-" + string(r) + ".svg" }

func latencyChart(l LatencyRun) string { return fmt.Sprintf("latency-%d-%d.svg", l.Sessions, l.Rate) }

func growthChart(dimension string) string {
	word, _, _ := strings.Cut(dimension, " ")
	return "growth-" + word + ".svg"
}

// A namedChart is a chart and the file it goes to.
type namedChart struct {
	file string
	plot *plot.Plot
}

// saveCharts writes the charts of all that was measured.
func (r *Report) saveCharts(dir string) error {
	charts, err := r.charts()
	if err != nil {
		return err
	}
	for _, c := range charts {
		if err := c.plot.Save(chartWidth, chartHeight, filepath.Join(dir, c.file)); err != nil {
			return fmt.Errorf("%s: %w", c.file, err)
		}
	}
	return nil
}

func (r *Report) charts() (all []namedChart, err error) {
	add := func(file string, p *plot.Plot, e error) {
		if e != nil && err == nil {
			err = fmt.Errorf("%s: %w", file, e)
		}
		if p != nil {
			all = append(all, namedChart{file, p})
		}
	}
	if len(r.Targets) > 0 {
		p, e := r.targetChart()
		add("targets.svg", p, e)
	}
	for _, regime := range []peers.Regime{peers.Memory, peers.WriteBehind, peers.Durable} {
		p, e := r.regimeChart(regime)
		add(chartName(regime), p, e)
	}
	for _, l := range r.Latency {
		p, e := l.chart()
		add(latencyChart(l), p, e)
	}
	for _, d := range dimensions {
		p, e := r.growthChart(d)
		add(growthChart(d), p, e)
	}
	if r.Steady != nil {
		p, e := r.Steady.chart()
		add("steady.svg", p, e)
	}
	return all, err
}

// palette has colours that are told apart on white; the first is the engine's.
var palette = []color.Color{
	color.RGBA{R: 0xd6, G: 0x27, B: 0x28, A: 0xff}, color.RGBA{R: 0x1f, G: 0x77, B: 0xb4, A: 0xff}, color.RGBA{R: 0x2c, G: 0xa0, B: 0x2c, A: 0xff},
	color.RGBA{R: 0xff, G: 0x7f, B: 0x0e, A: 0xff}, color.RGBA{R: 0x94, G: 0x67, B: 0xbd, A: 0xff}, color.RGBA{R: 0x8c, G: 0x56, B: 0x4b, A: 0xff},
	color.RGBA{R: 0x17, G: 0xbe, B: 0xcf, A: 0xff}, color.RGBA{R: 0x7f, G: 0x7f, B: 0x7f, A: 0xff},
}

// A series is the points of one colour, with what they range over.
type series struct {
	name   string
	points plotter.XYs
	errors plotter.YErrors
}

func (s *series) add(x float64, y Sample) {
	if len(y.Rounds) > 0 && y.Min > 0 {
		s.points = append(s.points, plotter.XY{X: x, Y: y.Median})
		s.errors = append(s.errors, struct{ Low, High float64 }{y.Median - y.Min, y.Max - y.Median})
	}
}

// Len, XY and YError make it a source of points with ranges.
func (s *series) Len() int                        { return len(s.points) }
func (s *series) XY(i int) (x, y float64)         { return s.points[i].X, s.points[i].Y }
func (s *series) YError(i int) (float64, float64) { return s.errors[i].Low, s.errors[i].High }

// newChart has a grid, the legend at the top, and a logarithmic axis for what differs by powers of ten.
func newChart(title, y string, log bool) *plot.Plot {
	p := plot.New()
	p.Title.Text, p.Y.Label.Text = title, y
	p.Add(plotter.NewGrid())
	p.Legend.Top = true
	p.Legend.Left = true
	p.Legend.YOffs = -vg.Points(4)
	p.Legend.Padding = vg.Points(2)
	p.Legend.TextStyle.Font.Size = vg.Points(8)
	p.Title.Padding = vg.Points(6)
	if log {
		p.Y.Scale, p.Y.Tick.Marker = plot.LogScale{}, plainTicks{}
	}
	return p
}

// plainTicks are a logarithmic axis's: 1, 2 and 5 of each power of ten are labelled, without exponents.
type plainTicks struct{}

// Ticks implements plot.Ticker.
func (plainTicks) Ticks(low, high float64) (ticks []plot.Tick) {
	if low <= 0 {
		return nil
	}
	for power := math.Pow(10, math.Floor(math.Log10(low))); power <= high; power *= 10 {
		for digit := 1.0; digit < 10; digit++ {
			v := digit * power
			if v < low || v > high {
				continue
			}
			label := ""
			if digit == 1 || digit == 2 || digit == 5 {
				label = strconv.FormatFloat(v, 'g', 3, 64)
				if v >= 1 {
					label = group(strconv.FormatFloat(math.Round(v), 'f', 0, 64))
				}
			}
			ticks = append(ticks, plot.Tick{Value: v, Label: label})
		}
	}
	return ticks
}

// drawSeries adds series to a chart, with a line if their x is a quantity.
func drawSeries(p *plot.Plot, all []*series, lines bool) error {
	for i, s := range all {
		if len(s.points) == 0 {
			continue
		}
		points, err := plotter.NewScatter(s)
		if err != nil {
			return err
		}
		bars, err := plotter.NewYErrorBars(s)
		if err != nil {
			return err
		}
		points.Color, points.Shape, points.Radius = palette[i%len(palette)], plotutil.Shape(i), vg.Points(3.5)
		bars.Color = points.Color
		if lines {
			line, err := plotter.NewLine(s)
			if err != nil {
				return err
			}
			line.Color = points.Color
			p.Add(line)
		}
		p.Add(points, bars)
		p.Legend.Add(s.name, points)
	}
	return nil
}

// regimeChart has a column for each workload and a colour for each peer. It is nil without tables.
func (r *Report) regimeChart(regime peers.Regime) (*plot.Plot, error) {
	var names []string
	byPeer := map[string]*series{}
	var all []*series
	kinds := peers.Kinds(regime)
	for _, k := range kinds {
		byPeer[k.Name] = &series{name: k.Name}
		all = append(all, byPeer[k.Name])
	}
	for _, t := range r.Tables {
		if t.Regime != regime {
			continue
		}
		for i, row := range t.Rows {
			offset := (float64(i) - float64(len(t.Rows)-1)/2) * 0.08 // side by side, so that ranges do not cover each other
			byPeer[row.Peer].add(float64(len(names))+offset, row.PerOp)
		}
		names = append(names, t.Workload.Name)
	}
	if !slices.ContainsFunc(all, func(s *series) bool { return s.Len() > 0 }) {
		return nil, nil
	}
	p := newChart(fmt.Sprintf("%s: ns per operation, median and range (less is better)", regime), "ns per operation", true)
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, 1.3*float64(len(names))-0.3 // room for the legend
	p.Legend.Left = false
	return p, drawSeries(p, all, false)
}

// targetChart shows how far each target is met: 1 is the target.
func (r *Report) targetChart() (*plot.Plot, error) {
	p := newChart("Targets: 1 and above is met", "times better than the target", true)
	var names []string
	met, missed, moon := &series{name: "met"}, &series{name: "not met"}, &series{name: "moonshot"}
	one := plotter.XYs{}
	for _, t := range r.Targets {
		if t.Missing != "" || t.Goal == 0 || t.Value.Median <= 0 {
			continue // allocations: 0 is no ratio
		}
		x := float64(len(names))
		names = append(names, t.ID)
		better := func(v float64) float64 {
			if t.AtMost {
				return t.Goal / v
			}
			return v / t.Goal
		}
		rounds := make([]float64, 0, len(t.Value.Rounds))
		for _, v := range t.Value.Rounds {
			if v > 0 {
				rounds = append(rounds, better(v))
			}
		}
		if t.met(t.Goal) {
			met.add(x, sampleOf(rounds))
		} else {
			missed.add(x, sampleOf(rounds))
		}
		moon.add(x, sampleOf([]float64{better(t.Moonshot)}))
		one = append(one, plotter.XY{X: x, Y: 1})
	}
	if len(names) == 0 {
		return nil, nil
	}
	p.NominalX(names...)
	p.X.Min, p.X.Max = -0.5, 1.15*float64(len(names))-0.3
	p.Legend.Left = false
	if len(one) > 1 {
		line, err := plotter.NewLine(one)
		if err != nil {
			return nil, err
		}
		line.Dashes = []vg.Length{vg.Points(4), vg.Points(3)}
		p.Add(line)
	}
	return p, drawSeries(p, []*series{missed, {}, met, moon}, false)
}

func (l LatencyRun) chart() (*plot.Plot, error) {
	p := newChart(fmt.Sprintf("Open loop, %s sessions, %s calls a second", count(int64(l.Sessions)), count(int64(l.Rate))), "µs", true)
	p.NominalX("p50", "p99", "p99.9", "max")
	p.X.Min, p.X.Max = -0.3, 3.3
	var all []*series
	for _, c := range l.Calls {
		s := &series{name: c.Name}
		for i, v := range []int64{c.P50, c.P99, c.P999, c.Max} {
			s.add(float64(i), sampleOf([]float64{float64(v) / 1e3}))
		}
		all = append(all, s)
	}
	return p, drawSeries(p, all, true)
}

// growthChart is nil if the dimension was not measured.
func (r *Report) growthChart(dimension string) (*plot.Plot, error) {
	all := []*series{{name: "Update"}, {name: "raw update"}, {name: "View"}, {name: "raw read"}, {name: "alternating"}}
	positive := true
	for _, g := range r.Growth {
		if g.Dimension != dimension || g.Missing != "" {
			continue
		}
		positive = positive && g.Value > 0
		for i, s := range []Sample{g.Update, g.RawUpdate, g.View, g.RawView, g.Alternate} {
			all[i].add(float64(g.Value), s)
		}
	}
	if all[0].Len() == 0 {
		return nil, nil
	}
	p := newChart("Growth: "+dimension, "ns per operation", true)
	p.X.Label.Text = dimension
	if positive && all[0].points[0].X < all[0].points[all[0].Len()-1].X {
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plainTicks{}
	}
	err := drawSeries(p, all, true)
	p.Y.Max *= math.Sqrt(10) // room for the legend
	return p, err
}

func (s *Steady) chart() (*plot.Plot, error) {
	p := newChart("Steady load: bytes on disk", "MB", false)
	p.X.Label.Text = "seconds"
	log, disk := &series{name: "log"}, &series{name: "directory"}
	for _, sample := range s.Samples {
		log.addValue(sample.At.Seconds(), float64(sample.Log)/1e6)
		disk.addValue(sample.At.Seconds(), float64(sample.Disk)/1e6)
	}
	p.Y.Min = 0
	return p, drawSeries(p, []*series{log, disk}, true)
}

// addValue adds a point without a range, 0 included.
func (s *series) addValue(x, y float64) {
	s.points = append(s.points, plotter.XY{X: x, Y: y})
	s.errors = append(s.errors, struct{ Low, High float64 }{})
}
