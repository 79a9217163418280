package monitoring

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// point is a sample of a series that a database would have stored.
type point struct {
	at    int64 // ms
	value float64
}

func (p point) T() int64                      { return p.at }
func (p point) ST() int64                     { return 0 }
func (p point) F() float64                    { return p.value }
func (p point) H() *histogram.Histogram       { return nil }
func (p point) FH() *histogram.FloatHistogram { return nil }
func (p point) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (p point) Copy() chunks.Sample           { return p }

// database has series of samples, and answers queries by Prometheus's engine.
type database struct {
	series map[string][]point
	labels map[string]labels.Labels
	engine *promql.Engine
}

func newDatabase() *database {
	return &database{
		series: make(map[string][]point), labels: make(map[string]labels.Labels),
		engine: promql.NewEngine(promql.EngineOpts{
			MaxSamples: 1 << 20, Timeout: time.Minute, Parser: parser.NewParser(parser.Options{}),
		}),
	}
}

func (d *database) add(l labels.Labels, at time.Time, value float64) {
	key := l.String()
	d.labels[key] = l
	d.series[key] = append(d.series[key], point{at: at.UnixMilli(), value: value})
}

func (d *database) querier() storage.Queryable {
	return &storage.MockQueryable{MockQuerier: &storage.MockQuerier{
		SelectMockFunction: func(_ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
			var found []storage.Series
			for key, l := range d.labels {
				if slices.ContainsFunc(matchers, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) }) {
					continue
				}
				samples := make([]chunks.Sample, len(d.series[key]))
				for i, p := range d.series[key] {
					samples[i] = p
				}
				found = append(found, storage.NewListSeries(l, samples))
			}
			return &seriesSet{all: found}
		},
	}}
}

// query evaluates at one time.
func (d *database) query(t *testing.T, text string, at time.Time) promql.Vector {
	t.Helper()
	q, err := d.engine.NewInstantQuery(context.Background(), d.querier(), nil, text, at)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	defer q.Close()
	result := q.Exec(context.Background())
	vector, err := result.Vector()
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if w := result.Warnings.AsErrors(); len(w) > 0 {
		t.Errorf("%s: %v", text, w)
	}
	return slices.Clone(vector)
}

type seriesSet struct {
	all  []storage.Series
	next int
}

func (s *seriesSet) Next() bool { s.next++; return s.next <= len(s.all) }

func (s *seriesSet) At() storage.Series                { return s.all[s.next-1] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }
