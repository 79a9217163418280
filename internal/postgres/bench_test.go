package postgres

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"fusillade/internal/batch"
)

// What the pipeline does at once by default.
const (
	benchClaim  = 100
	benchStart  = 256
	benchFinish = 512
	benchBody   = 500 // bytes, of a request and of a response
)

// newLargeFile stores a ready file of n lines without sending them.
func newLargeFile(t testing.TB, s *Store, n int) batch.FileID {
	t.Helper()
	id, err := s.CreateFile(t.Context(), "large.jsonl", creator)
	if err != nil {
		t.Fatal(err)
	}
	sqlExec(t, s, `
INSERT INTO templates SELECT $1, n, $2, 'id-' || n, 'POST', '/v1/chat/completions', convert_to(repeat('x', $4), 'UTF8')
  FROM generate_series(1, $3::int) n`, [16]byte(id), string(testModel), n, benchBody)
	sum := batch.FileSummary{Requests: n, Models: []batch.ModelDemand{{Model: testModel, Requests: n, Bytes: int64(n * benchBody)}}}
	if err := s.FinishFile(t.Context(), id, sum); err != nil {
		t.Fatal(err)
	}
	sqlExec(t, s, `VACUUM ANALYZE templates`)
	return id
}

// source claims from one batch of a file after another.
type source struct {
	s    *Store
	file batch.FileID
	id   batch.ID
	left int
	size int
}

func newSource(b *testing.B, s *Store, lines int) *source {
	return &source{s: s, file: newLargeFile(b, s, lines), size: lines}
}

// prepare makes sure that the current batch has n pending requests.
func (src *source) prepare(b *testing.B, n int) {
	b.Helper()
	if src.left < n {
		src.id, src.left = batchOf(b, src.s, src.file), src.size
	}
	src.left -= n
}

func (src *source) claim(b *testing.B, n int) []Delivery {
	b.Helper()
	return claimed(b, src.s, src.id, n)
}

// finish measures finishes of requests that were claimed and started.
func (src *source) finish(b *testing.B, d batch.DaemonID) {
	b.Helper()
	for b.Loop() {
		b.StopTimer()
		src.prepare(b, benchFinish)
		deliveries := src.claim(b, benchFinish)
		start(b, src.s, rules(d), deliveries...)
		b.StartTimer()
		finish(b, src.s, d, endings(answered, deliveries)...)
	}
}

// The cost of creating a batch is that of the models in its file.
func BenchmarkCreateBatch(b *testing.B) {
	for _, lines := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("lines=%d", lines), func(b *testing.B) {
			s := newStore(b)
			file := newLargeFile(b, s, lines)
			for b.Loop() {
				batchOf(b, s, file)
			}
		})
	}
}

func BenchmarkStart(b *testing.B) {
	s := newStore(b)
	d := newDaemon(b, s)
	src := newSource(b, s, 100_000)
	for b.Loop() {
		b.StopTimer()
		src.prepare(b, benchStart)
		deliveries := src.claim(b, benchStart)
		b.StartTimer()
		start(b, s, rules(d), deliveries...)
	}
	perRequest(b, benchStart)
}

func BenchmarkFinish(b *testing.B) {
	s := newStore(b)
	d := newDaemon(b, s)
	src := newSource(b, s, 100_000)
	src.finish(b, d)
	perRequest(b, benchFinish)
}

// BenchmarkLife takes requests from pending to completed and reports the time
// and the write-ahead log of each statement.
func BenchmarkLife(b *testing.B) {
	s := newStore(b)
	d := newDaemon(b, s)
	src := newSource(b, s, 100_000)
	var spent [3]time.Duration
	var logged [3]int64
	measure := func(step int, f func()) {
		before, err := s.WALBytes(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		began := time.Now()
		f()
		spent[step] += time.Since(began)
		after, err := s.WALBytes(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		logged[step] += after - before
	}
	requests := 0
	for b.Loop() {
		var deliveries []Delivery
		for len(deliveries) < benchFinish {
			n := min(benchClaim, benchFinish-len(deliveries))
			src.prepare(b, n)
			measure(0, func() { deliveries = append(deliveries, src.claim(b, n)...) })
		}
		for i := 0; i < benchFinish; i += benchStart {
			measure(1, func() { start(b, s, rules(d), deliveries[i:i+benchStart]...) })
		}
		measure(2, func() { finish(b, s, d, endings(answered, deliveries)...) })
		requests += benchFinish
	}
	for i, step := range []string{"claim", "start", "finish"} {
		b.ReportMetric(float64(spent[i].Nanoseconds())/float64(requests), step+"-ns/request")
		b.ReportMetric(float64(logged[i])/float64(requests), step+"-WAL-B/request")
	}
	b.ReportMetric(0, "ns/op")
}

func perRequest(b *testing.B, n int) {
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/request")
}

var answer = bytes.Repeat([]byte("y"), benchBody)

func answered(d Delivery) Completion {
	e := completed(d)
	e.Body, e.RequestID, e.AnsweredModel = answer, "chatcmpl-0123456789abcdef", "model-1-2026-01-01"
	e.Usage = batch.Usage{PromptTokens: 100, CompletionTokens: 200}
	return e
}

// Neither a claim nor the list of cursors that it begins with costs more
// because many batches are open.
func BenchmarkOpenBatches(b *testing.B) {
	for _, open := range []int{1, 10_000} {
		s := newStore(b)
		src := newSource(b, s, 1_000_000)
		src.prepare(b, benchClaim)
		sqlExec(b, s, `
WITH b AS (
    INSERT INTO batches (id, file_id, endpoint, completion_window, created_by, expires_at, total)
    SELECT gen_random_uuid(), file_id, endpoint, completion_window, 'user ' || n % 100, expires_at + interval '1 h', total
      FROM batches, generate_series(2, $1::int) n
    RETURNING id, file_id, total)
INSERT INTO cursors (batch_id, model, file_id, total) SELECT id, $2, file_id, total FROM b`, open, string(testModel))
		sqlExec(b, s, `VACUUM ANALYZE`)
		b.Run(fmt.Sprintf("list/open=%d", open), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := s.OpenCursors(b.Context(), testModel, []Route{{}}, ""); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("claim/open=%d", open), func(b *testing.B) {
			for b.Loop() {
				src.prepare(b, benchClaim)
				src.claim(b, benchClaim)
			}
			perRequest(b, benchClaim)
		})
		b.Run(fmt.Sprintf("waiting/open=%d", open), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.WaitingModels(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
