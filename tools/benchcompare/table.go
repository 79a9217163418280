package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"text/tabwriter"

	"golang.org/x/perf/benchfmt"
	"golang.org/x/perf/benchmath"
	"golang.org/x/perf/benchunit"
)

// figure is one benchmark's measurements in one unit.
type figure struct{ benchmark, unit string }

// figures are what one side measured, and their order.
type figures struct {
	order  []figure
	values map[figure][]float64
}

func readFigures(path string) (*figures, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	read := &figures{values: map[figure][]float64{}}
	reader := benchfmt.NewReader(f, path)
	for reader.Scan() {
		result, ok := reader.Result().(*benchfmt.Result)
		if !ok {
			continue // a line of the tests around it
		}
		for _, v := range result.Values {
			at := figure{string(result.Name), v.Unit}
			if read.values[at] == nil {
				read.order = append(read.order, at)
			}
			read.values[at] = append(read.values[at], v.Value)
		}
	}
	return read, reader.Err()
}

// printTable compares the medians of what both measured. Statistics: those of
// benchstat without an assumption on distributions, the Mann-Whitney U test.
func printTable(out io.Writer, base, head *figures) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	benchmark := ""
	for _, at := range base.order {
		b, h := base.values[at], head.values[at]
		if len(h) == 0 {
			continue
		}
		if at.benchmark != benchmark {
			benchmark = at.benchmark
			if err := w.Flush(); err != nil {
				return err
			}
			fmt.Fprintf(out, "%s, %d and %d runs: median (lowest to highest)\n", benchmark, len(b), len(h))
			fmt.Fprintf(w, "figure\tbase\thead\thead/base\tby chance\t\n")
		}
		before, after := benchmath.NewSample(b, &benchmath.DefaultThresholds), benchmath.NewSample(h, &benchmath.DefaultThresholds)
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", at.unit, spread(before, at.unit), spread(after, at.unit),
			ratio(median(after), median(before)), chance(before, after))
	}
	return w.Flush()
}

func median(s *benchmath.Sample) float64 { return benchmath.AssumeNothing.Summary(s, 0.95).Center }

func spread(s *benchmath.Sample, unit string) string {
	scaler := benchunit.CommonScale([]float64{median(s)}, benchunit.ClassOf(unit))
	return fmt.Sprintf("%s (%s to %s)", scaler.Format(median(s)), scaler.Format(slices.Min(s.Values)), scaler.Format(slices.Max(s.Values)))
}

func ratio(a, b float64) string {
	if b == 0 || math.IsNaN(a/b) {
		return "-"
	}
	return fmt.Sprintf("%.2f", a/b)
}

// chance is how likely a difference like this is between runs of the same.
func chance(before, after *benchmath.Sample) string {
	c := benchmath.AssumeNothing.Compare(before, after)
	text := fmt.Sprintf("%.2f", c.P)
	if c.P < c.Alpha {
		return text + " *"
	}
	return text
}
