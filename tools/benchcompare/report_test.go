package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/perf/benchfmt"
)

func TestBenchmarkLine(t *testing.T) {
	line, err := benchmarkLine([]byte(`{"requests":5000,"models":1,"concurrency":64,"latency_ms":0,"body_bytes":1024,"runs":1,
		"requests_per_second":4000.5,"bare_ratio":0.5,"pickup_ms":{"p50":2.5,"p99":9},"cpu_seconds_per_request":0.00015,"new_figure":7}`))
	if err != nil {
		t.Fatal(err)
	}
	reader := benchfmt.NewReader(strings.NewReader(line), "report")
	if !reader.Scan() {
		t.Fatalf("no line that benchstat reads: %q (%v)", line, reader.Err())
	}
	result, ok := reader.Result().(*benchfmt.Result)
	if !ok {
		t.Fatalf("%q is read as %v", line, reader.Result())
	}
	if got, want := string(result.Name), "Pipeline/requests=5000/models=1/concurrency=64/latency_ms=0/body_bytes=1024"; got != want {
		t.Errorf("its name is %q, want %q", got, want)
	}
	for unit, want := range map[string]float64{"requests/s": 4000.5, "%-of-bare": 50, "pickup-p50-ms": 2.5, "pickup-p99-ms": 9, "CPU-s/request": 0.00015, "new_figure": 7} {
		if got, ok := result.Value(unit); !ok || got != want {
			t.Errorf("%s is %v (%v), want %v", unit, got, ok, want)
		}
	}
	if _, ok := result.Value("runs"); ok {
		t.Error("the number of runs is a figure")
	}
}

func TestBenchmarkLineOfNothing(t *testing.T) {
	if _, err := benchmarkLine([]byte("no report")); err == nil {
		t.Error("text that is no report is taken")
	}
}

func TestTable(t *testing.T) {
	read := func(text string) *figures {
		path := filepath.Join(t.TempDir(), "results.txt")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := readFigures(path)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	base := read("BenchmarkX 1 100 requests/s 5 old\nBenchmarkX 1 300 requests/s 5 old\nBenchmarkX 1 200 requests/s 5 old\nok fusillade 1s\n")
	head := read("BenchmarkX 1 400 requests/s\nBenchmarkX 1 500 requests/s\nBenchmarkX 1 300 requests/s\n")
	var out strings.Builder
	if err := printTable(&out, base, head); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"X, 3 and 3 runs", "200.0 (100.0 to 300.0)", "400.0 (300.0 to 500.0)", "2.00"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "old") {
		t.Errorf("a figure that one side lacks is compared:\n%s", out.String())
	}
}
