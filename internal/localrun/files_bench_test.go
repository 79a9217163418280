package localrun

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

const (
	benchOwner = "benchmark"
	benchModel = "m"
	// benchBytes is the size of a file, and chunkBytes that of a COPY, as jsonl.Load
	// makes them.
	benchBytes, chunkBytes, chunkLines = 24 << 20, 4 << 20, 4000
)

// words is text that compresses about as text does.
func words(n int) []byte {
	r := rand.New(rand.NewPCG(1, uint64(n)))
	var b []byte
	for len(b) < n {
		b = fmt.Appendf(b, "%x ", r.Uint32N(1<<14))
	}
	return b[:n]
}

func bodyOf(size int) []byte {
	head, tail := `{"model":"`+benchModel+`","messages":[{"role":"user","content":"`, `"}]}`
	return []byte(head + string(words(max(size-len(head)-len(tail), 1))) + tail)
}

func openBenchStore(b *testing.B) *postgres.Store {
	b.Helper()
	s, err := postgres.Open(b.Context(), postgres.Config{URL: testenv.DatabaseURL(b), MaxConns: 8, ApplicationName: b.Name()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.Close)
	return s
}

// The same lines, stored by COPY alone and read from a file, in turn.
func BenchmarkIngest(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			s := openBenchStore(b)
			body := bodyOf(size)
			n := benchBytes / size
			templates := make([]batch.Template, n)
			var file bytes.Buffer
			for i := range templates {
				templates[i] = batch.Template{Line: int32(i + 1), CustomID: fmt.Sprintf("request-%d", i), Model: benchModel, Method: "POST", Path: "/v1/chat/completions", Body: body}
				fmt.Fprintf(&file, `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":%s}`+"\n", i, body)
			}
			var copied, loaded time.Duration
			for b.Loop() {
				began := time.Now()
				copyAll(b, s, templates, min(chunkLines, max(chunkBytes/size, 1)))
				copied += time.Since(began)
				began = time.Now()
				load(b, s, file.Bytes(), n)
				loaded += time.Since(began)
			}
			perSecond := func(d time.Duration) float64 { return float64(b.N) * float64(file.Len()) / 1e6 / d.Seconds() }
			b.ReportMetric(perSecond(copied), "copy-MB/s")
			b.ReportMetric(perSecond(loaded), "load-MB/s")
			b.ReportMetric(100*copied.Seconds()/loaded.Seconds(), "%-of-copy")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func copyAll(b *testing.B, s *postgres.Store, templates []batch.Template, chunk int) {
	b.Helper()
	id, err := s.CreateFile(b.Context(), "copied.jsonl", benchOwner)
	if err != nil {
		b.Fatal(err)
	}
	for begin := 0; begin < len(templates); begin += chunk {
		if err := s.CopyTemplates(b.Context(), id, templates[begin:min(begin+chunk, len(templates))]); err != nil {
			b.Fatal(err)
		}
	}
}

func load(b *testing.B, s *postgres.Store, file []byte, n int) batch.FileID {
	b.Helper()
	r, err := jsonl.NewReader(bytes.NewReader(file), jsonl.Config{Limits: jsonl.Limits{MaxRequests: n, MaxModels: 1, MaxFileBytes: 1 << 40}})
	if err != nil {
		b.Fatal(err)
	}
	id, _, err := jsonl.Load(b.Context(), s, r, "loaded.jsonl", benchOwner, nil)
	if err != nil {
		b.Fatal(err)
	}
	return id
}

// The output file of a batch.
func BenchmarkOutput(b *testing.B) {
	for _, size := range []int{1 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			s := openBenchStore(b)
			id := answered(b, s, benchBytes/size, bodyOf(size))
			out, err := cli.NewOutputs(&cli.Terminal{Out: io.Discard, Err: io.Discard}, filepath.Join(b.TempDir(), "out.jsonl"), "")
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(benchBytes)
			for b.Loop() {
				if err := WriteResults(b.Context(), s, id, out); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// answered makes a batch of n requests that have this answer.
func answered(b *testing.B, s *postgres.Store, n int, answer []byte) batch.ID {
	b.Helper()
	var file bytes.Buffer
	for i := range n {
		fmt.Fprintf(&file, `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"%s","messages":[]}}`+"\n", i, benchModel)
	}
	id, _, err := s.CreateBatch(b.Context(), postgres.NewBatch{
		File: load(b, s, file.Bytes(), n), CompletionWindow: time.Hour, WindowText: "1h", CreatedBy: benchOwner,
	})
	if err != nil {
		b.Fatal(err)
	}
	daemon := postgres.NewDaemonID()
	if err := s.RegisterDaemon(b.Context(), postgres.Daemon{ID: daemon, Role: "consumer", Hostname: "host", PID: 1, Version: "test"}); err != nil {
		b.Fatal(err)
	}
	rules := postgres.StartRules{Daemon: daemon, ProcessingTimeout: time.Hour, StaleThreshold: time.Minute}
	for left := n; left > 0; {
		claimed, err := s.Claim(b.Context(), benchModel, []postgres.Quota{{Batch: id, N: min(left, 64)}})
		if err != nil {
			b.Fatal(err)
		}
		left -= len(claimed)
		deliveries, done := make([]postgres.Delivery, len(claimed)), make([]postgres.Completion, len(claimed))
		for i, r := range claimed {
			deliveries[i] = postgres.Delivery{ID: r.ID, Claim: r.Claim, Number: 1}
			done[i] = postgres.Completion{Delivery: deliveries[i], State: batch.Completed, Attempts: 1, StatusCode: 200, Body: answer}
		}
		if _, err := s.Start(b.Context(), rules, deliveries); err != nil {
			b.Fatal(err)
		}
		if _, err := s.Finish(b.Context(), daemon, done, nil); err != nil {
			b.Fatal(err)
		}
	}
	return id
}
