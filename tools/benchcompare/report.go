package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// parameters of a run name its benchmark; they are not measured.
var parameters = []string{"requests", "models", "concurrency", "latency_ms", "body_bytes"}

// ignored says nothing of what was measured.
var ignored = []string{"runs", "replicas"}

// units are what the figures of `fusillade bench --json` are called here. One that
// another revision measures under another name keeps its own.
var units = map[string]string{
	"ingest_requests_per_second":            "ingest/s",
	"create_batch_ms":                       "create-ms",
	"requests_per_second":                   "requests/s",
	"bare_requests_per_second":              "bare/s",
	"bare_ratio":                            "%-of-bare",
	"slot_use":                              "%-slot-use",
	"pickup_ms.p50":                         "pickup-p50-ms",
	"pickup_ms.p99":                         "pickup-p99-ms",
	"wal_bytes_per_request":                 "WAL-bytes/request",
	"cpu_seconds_per_request":               "CPU-s/request",
	"database_cpu_seconds_per_request":      "Postgres-CPU-s/request",
	"single_server_requests_per_second":     "one-server/s",
	"replicas_ratio":                        "%-of-one-server",
	"single_server_cpu_seconds_per_request": "one-server-CPU-s/request",
}

// benchmarkLine is a report of `fusillade bench --json` as a line that benchstat
// reads. Source: https://go.dev/design/14313-benchmark-format
func benchmarkLine(report []byte) (string, error) {
	var fields map[string]any
	if err := json.Unmarshal(report, &fields); err != nil {
		return "", fmt.Errorf("what fusillade bench printed is not a JSON object: %w", err)
	}
	numbers := map[string]float64{}
	flatten("", fields, numbers)
	name := "BenchmarkPipeline"
	for _, p := range parameters {
		name += fmt.Sprintf("/%s=%v", p, numbers[p])
		delete(numbers, p)
	}
	for _, key := range ignored {
		delete(numbers, key)
	}
	line := name + " 1"
	for _, key := range slices.Sorted(maps.Keys(numbers)) {
		unit := units[key]
		if unit == "" {
			unit = strings.ReplaceAll(key, ".", "-")
		}
		value := numbers[key]
		if strings.HasPrefix(unit, "%") {
			value *= 100
		}
		line += fmt.Sprintf(" %v %s", value, unit)
	}
	return line + "\n", nil
}

// flatten collects the numbers of an object, those of objects in it as OUTER.INNER.
func flatten(prefix string, fields map[string]any, numbers map[string]float64) {
	for key, value := range fields {
		switch v := value.(type) {
		case float64:
			numbers[prefix+key] = v
		case map[string]any:
			flatten(prefix+key+".", v, numbers)
		}
	}
}
