//go:build chaos && unix

package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"fusillade/internal/mock"
	"fusillade/internal/testenv/programs"
)

// endpoint is a mock model endpoint in a process of its own.
type endpoint struct {
	t      *testing.T
	url    string
	client http.Client
}

func newEndpoint(t *testing.T, limit int, o options) *endpoint {
	t.Helper()
	args := []string{
		"mock", "--latency", cmp.Or(o.latency, "uniform:20ms-80ms"), "--seed", fmt.Sprint(seed),
		"--ceiling", fmt.Sprintf("*=%d", limit), "--output-tokens", "4",
	}
	if !o.noErrors {
		args = append(args, "--errors", "503=0.06,429=0.03,400=0.01")
	}
	p, err := built.Launch(programs.Environment(), "fusillade", args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	e := &endpoint{t: t, url: p.URL(t), client: http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{}}}
	t.Cleanup(e.client.CloseIdleConnections)
	return e
}

// stats is the endpoint's own record, with the calls by custom id.
func (e *endpoint) stats() (s mock.Stats) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.t.Context()), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.url+"/stats?custom_ids=1", nil)
	if err != nil {
		e.t.Fatal(err)
	}
	resp, err := e.client.Do(req)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		e.t.Fatal(err)
	}
	return s
}
