package e2e

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"fusillade/internal/mock"
)

// An endpoint that refuses every call ends a run, with its own words, before
// the file is called in vain. Mended, the same command goes on.
func TestRunEndsWhenItIsRefused(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status   int
		body     string
		n        int
		maxCalls int64
		want     []string
	}{
		"bad key":       {401, `{"error":{"message":"Incorrect API key provided","code":"invalid_api_key"}}`, 2000, 100, []string{"Incorrect API key provided", "--api-key-env"}},
		"a small file":  {403, ``, 3, 30, []string{"status 403", "--api-key-env"}},
		"unknown model": {404, `{"error":{"message":"The model does not exist","code":"model_not_found"}}`, 40, 100, []string{"The model does not exist", "model"}},
		"no quota":      {429, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota"}}`, 40, 100, []string{"current quota", "billing"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, mock.Settings{})
			var refusing atomic.Bool
			var calls atomic.Int64
			endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if !refusing.Load() {
					c.mock.ServeHTTP(w, r)
					return
				}
				calls.Add(1)
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			t.Cleanup(endpoint.Close)
			out := filepath.Join(t.TempDir(), "out.jsonl")
			args := []string{"run", requests(t, tt.n, "gpt-4"), "-o", out, "--data-dir", t.TempDir(), "--upstream", endpoint.URL, "--give-up-after", "2s"}

			refusing.Store(true)
			c.start("fusillade", args...).WantExit(t, 3, append(tt.want, "run the same command again")...)
			if got := calls.Load(); got > tt.maxCalls {
				t.Errorf("%d calls, want at most %d", got, tt.maxCalls)
			}
			refusing.Store(false)
			c.start("fusillade", args...).WantExit(t, 0)
			if got := len(customIDs(t, out)); got != tt.n {
				t.Errorf("%d results, want %d", got, tt.n)
			}
		})
	}
}

// Neither do other models' calls suffer from one that is refused, nor does a run
// end while they go on.
func TestRefusedModelBesideAnother(t *testing.T) {
	t.Parallel()
	c := newCluster(t, mock.Settings{})
	release := make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || strings.Contains(string(body), "typo") {
			http.Error(w, `{"error":{"message":"no such model"}}`, http.StatusNotFound)
			return
		}
		select {
		case <-release:
		case <-r.Context().Done():
			return
		}
		_, _ = w.Write([]byte(`{"id":"1","object":"chat.completion","model":"slow","choices":[{"index":0,"message":{"role":"assistant","content":"x"},"finish_reason":"stop"}]}`))
	}))
	t.Cleanup(endpoint.Close)
	out := filepath.Join(t.TempDir(), "out.jsonl")
	p := c.start("fusillade", "run", requests(t, 8, "slow", "typo"), "-o", out, "--data-dir", t.TempDir(), "--upstream", endpoint.URL, "--give-up-after", "500ms")
	retried := func() bool {
		return c.count(`SELECT count(*) FROM requests WHERE attempt >= 2`) > 0
	}
	poll(t, "the refused ones are retried for longer than the time", retried)
	select {
	case <-p.Done():
		t.Error("it ended while another model's calls were in flight")
	default:
	}
	close(release)
	p.WantExit(t, 3, "typo", "no such model", "4 of 8 requests completed")
	if got := len(customIDs(t, out)); got != 4 {
		t.Errorf("%d results, want 4", got)
	}
}
