package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"unicode/utf8"
)

// A grid is a table of text under a title.
type grid struct {
	title  string
	notes  []string
	header []string
	words  int // columns after the first that hold words; the others hold figures
	rows   [][]string
	chart  string // the file of a picture of it
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// writeText lays the columns out with spaces.
func (g *grid) writeText(w io.Writer) error {
	width := make([]int, len(g.header))
	for _, row := range append([][]string{g.header}, g.rows...) {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n%s\n", g.title, strings.Repeat("=", utf8.RuneCountInString(g.title)))
	for _, n := range g.notes {
		fmt.Fprintln(&b, n)
	}
	line := func(row []string) {
		var l strings.Builder
		for i, cell := range row {
			pad := strings.Repeat(" ", width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				l.WriteString("  ")
			}
			if i <= g.words {
				l.WriteString(cell + pad)
			} else {
				l.WriteString(pad + cell)
			}
		}
		fmt.Fprintln(&b, strings.TrimRight(l.String(), " "))
	}
	if len(g.header) > 0 {
		fmt.Fprintln(&b)
		line(g.header)
		for _, row := range g.rows {
			line(row)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeMarkdown writes a Markdown table.
func (g *grid) writeMarkdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "\n## %s\n\n", g.title)
	for _, n := range g.notes {
		fmt.Fprintf(&b, "%s\n\n", n)
	}
	if len(g.header) > 0 {
		escape := strings.NewReplacer("|", "\\|", "\n", " ").Replace
		line := func(row []string) {
			for _, cell := range row {
				b.WriteString("| " + escape(cell) + " ")
			}
			b.WriteString("|\n")
		}
		line(g.header)
		b.WriteString("|---" + strings.Repeat("|---", g.words) + strings.Repeat("|---:", len(g.header)-1-g.words) + "|\n")
		for _, row := range g.rows {
			line(row)
		}
	}
	if g.chart != "" {
		fmt.Fprintf(&b, "\n![%s](%s)\n", g.title, g.chart)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// number writes a figure with three digits that count.
func number(v float64) string {
	switch a := math.Abs(v); {
	case v == 0:
		return "0"
	case a >= 100:
		return group(fmt.Sprintf("%.0f", v))
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	case a >= 1:
		return fmt.Sprintf("%.2f", v)
	default:
		return fmt.Sprintf("%.3f", v)
	}
}

// group sets a comma between thousands.
func group(digits string) string {
	sign := ""
	if strings.HasPrefix(digits, "-") {
		sign, digits = "-", digits[1:]
	}
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return sign + digits
}

func count(n int64) string { return group(fmt.Sprint(n)) }

// spread writes the least and the most of a sample.
func spread(s Sample) string {
	if len(s.Rounds) == 0 {
		return "–"
	}
	return number(s.Min) + " – " + number(s.Max)
}

// middle writes the median of a sample.
func middle(s Sample) string {
	if len(s.Rounds) == 0 {
		return "–"
	}
	return number(s.Median)
}

// duration writes nanoseconds in the unit that fits.
func duration(ns float64) string {
	switch {
	case ns >= 1e9:
		return number(ns/1e9) + " s"
	case ns >= 1e6:
		return number(ns/1e6) + " ms"
	case ns >= 1e3:
		return number(ns/1e3) + " µs"
	}
	return number(ns) + " ns"
}

// size writes bytes in the unit that fits.
func size(bytes int64) string {
	switch {
	case bytes >= 1e9:
		return number(float64(bytes)/1e9) + " GB"
	case bytes >= 1e6:
		return number(float64(bytes)/1e6) + " MB"
	case bytes >= 1e3:
		return number(float64(bytes)/1e3) + " kB"
	}
	return fmt.Sprintf("%d B", bytes)
}
