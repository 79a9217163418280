package app

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"fusillade/internal/config"
	"fusillade/internal/testenv"
)

// withAdmin serves health and metrics on a free port.
func withAdmin(s *config.Standalone) { s.Admin.Addr = "127.0.0.1:0" }

var fresh = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// ask returns the status and the body of an answer of the admin server; 0 if
// there is none.
func (r *running) ask(t *testing.T, path string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+r.admin+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := fresh.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// scrape returns every sample by its name and labels.
func (r *running) scrape(t *testing.T) map[string]float64 {
	t.Helper()
	status, body := r.ask(t, "/metrics")
	if status != 200 {
		t.Fatalf("/metrics: %d %s", status, body)
	}
	samples := make(map[string]float64)
	for line := range strings.Lines(body) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		samples[line[:i]] = value
	}
	return samples
}

// awaitSample waits until a sample is at least so much.
func (r *running) awaitSample(t *testing.T, sample string, least float64) {
	t.Helper()
	testenv.Eventually(t, fmt.Sprintf("%s is at least %v", sample, least), func() bool { return r.scrape(t)[sample] >= least })
}

// expectation is a sample and its value.
type expectation struct {
	sample      string
	least, most float64
}

func checkSamples(t *testing.T, got map[string]float64, want []expectation) {
	t.Helper()
	for _, e := range want {
		if v, ok := got[e.sample]; !ok || v < e.least || v > e.most {
			t.Errorf("%s = %v (there: %v), want %v to %v", e.sample, v, ok, e.least, e.most)
		}
	}
}

func exactly(sample string, n float64) expectation {
	return expectation{"fusillade_" + sample, n, n}
}
func about(sample string, least, most float64) expectation {
	return expectation{"fusillade_" + sample, least, most}
}

const many = 1e9
