//go:build rates && unix

package rates

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

const (
	requestsPerMinute = 600
	tokensPerMinute   = 100_000
)

// The two models, by what they are short of.
const requests, tokens = "short-of-requests", "short-of-tokens"

// built is where the programs under test are.
var built programs.Dir

func TestMain(m *testing.M) {
	programs.Main(m, &built, func() (programs.Dir, error) { return programs.Build("../..", "rates", programs.Commands) })
}

// arrival is a call as the endpoint saw it come, and the tokens of its answer.
type arrival struct {
	at     time.Time
	tokens int
}

// endpoint answers with a part of what is asked for, after a second or two.
type endpoint struct {
	mu    sync.Mutex
	calls map[string][]arrival
}

// ServeHTTP implements http.Handler.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(r.Body)
	var asked struct {
		Model     string `json:"model"`
		MaxTokens int    `json:"max_tokens"`
	}
	if err != nil || json.Unmarshal(body, &asked) != nil {
		http.Error(w, "no request", http.StatusBadRequest)
		return
	}
	prompt, answer := len(body)/4, asked.MaxTokens/2+rand.IntN(asked.MaxTokens/2)
	e.mu.Lock()
	e.calls[asked.Model] = append(e.calls[asked.Model], arrival{at, prompt + answer})
	e.mu.Unlock()
	select {
	case <-r.Context().Done():
	case <-time.After(time.Second + rand.N(time.Second)):
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"choices":[{"message":{"content":"ok"}}],"usage":{"prompt_tokens":%d,"completion_tokens":%d}}`, prompt, answer)
	}
}

func (e *endpoint) of(model string) []arrival {
	e.mu.Lock()
	defer e.mu.Unlock()
	calls := slices.Clone(e.calls[model])
	slices.SortFunc(calls, func(a, b arrival) int { return a.at.Compare(b.at) })
	return calls
}

// fullest is the most calls and tokens of any 60 s.
func fullest(calls []arrival) (worst, worstTokens int) {
	first, sum := 0, 0
	for i, c := range calls {
		for sum += c.tokens; c.at.Sub(calls[first].at) >= time.Minute; first++ {
			sum -= calls[first].tokens
		}
		worst, worstTokens = max(worst, i-first+1), max(worstTokens, sum)
	}
	return worst, worstTokens
}

func between(calls []arrival, from, to time.Time) (n, sum int) {
	for _, c := range calls {
		if !c.at.Before(from) && c.at.Before(to) {
			n, sum = n+1, sum+c.tokens
		}
	}
	return n, sum
}

func minutes(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("RATES_MINUTES"))
	if os.Getenv("RATES_MINUTES") == "" {
		return 10
	}
	if err != nil || n < 1 || n > 60 {
		t.Fatal("RATES_MINUTES is no whole number from 1 to 60")
	}
	return n
}

func TestNoMinuteIsAboveAndMostIsUsed(t *testing.T) {
	lasts := time.Duration(minutes(t)) * time.Minute
	e := &endpoint{calls: make(map[string][]arrival)}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	limit := fmt.Sprintf("%drpm/%dtpm", requestsPerMinute, tokensPerMinute)
	env := programs.Environment(
		"FUSILLADE_DATABASE_URL="+testenv.DatabaseURL(t), "FUSILLADE_NATS_URL="+testenv.NATS(t).URL(),
		"FUSILLADE_UPSTREAM_URL="+server.URL, "FUSILLADE_DEFAULT_MODEL_CONCURRENCY=100", "FUSILLADE_DEFAULT_MODEL_RATE_LIMIT="+limit,
		"FUSILLADE_HEARTBEAT_INTERVAL_MS=1000", "FUSILLADE_STALE_DAEMON_THRESHOLD_MS=6000", "FUSILLADE_DATABASE_MAX_CONNS=6",
		"FUSILLADE_LISTEN_ADDR=127.0.0.1:0", "FUSILLADE_STATUS_LOG_INTERVAL_MS=none")
	env = append(env, "FUSILLADE_SERVER="+built.Start(t, env, "api").URL(t))
	start := func(role string) *programs.Process { return built.Start(t, env, role) }
	start("dispatcher")
	consumers := []*programs.Process{start("consumer"), start("consumer"), start("consumer")}
	begin(t, env, int(lasts.Minutes())+1)

	testenv.Eventually(t, "calls of both models come", func() bool { return len(e.of(requests)) > 0 && len(e.of(tokens)) > 0 })
	began := time.Now().Add(15 * time.Second) // the consumers have learned how large answers are
	wait(t, 15*time.Second+lasts*2/5)
	consumers[0].Kill()
	t.Logf("a consumer was killed %v after the beginning", time.Since(began).Round(time.Second))
	wait(t, 15*time.Second)
	start("consumer")
	end := began.Add(lasts)
	wait(t, time.Until(end))

	for model, short := range map[string]func(n, tokens int) float64{
		requests: func(n, _ int) float64 { return float64(n) / requestsPerMinute },
		tokens:   func(_, sum int) float64 { return float64(sum) / tokensPerMinute },
	} {
		calls := e.of(model)
		for from := began; from.Before(end); from = from.Add(time.Minute) {
			n, sum := between(calls, from, from.Add(time.Minute))
			t.Logf("%-18s minute %2d: %4d requests, %6d tokens", model, 1+int(from.Sub(began).Minutes()), n, sum)
		}
		worst, worstTokens := fullest(calls)
		used := short(between(calls, began, end)) / lasts.Minutes()
		t.Logf("%-18s fullest 60 s: %d of %d requests, %d of %d tokens; used %.1f %%", model, worst, requestsPerMinute, worstTokens, tokensPerMinute, 100*used)
		if worst > requestsPerMinute || worstTokens > tokensPerMinute {
			t.Errorf("%s: 60 s had %d requests and %d tokens", model, worst, worstTokens)
		}
		if used < 0.95 {
			t.Errorf("%s: %.1f %% of the limit was used, want 95 %%", model, 100*used)
		}
	}
}

// begin begins a batch that both models have work from for so many minutes.
func begin(t *testing.T, env []string, minutes int) {
	t.Helper()
	var file bytes.Buffer
	for i := range requestsPerMinute * minutes {
		for model, most := range map[string]int{requests: 80, tokens: 400} {
			fmt.Fprintf(&file, `{"custom_id":"%s-%d","method":"POST","url":"/v1/chat/completions","body":{"model":%q,"max_tokens":%d,"messages":[{"role":"user","content":%q}]}}`+"\n",
				model, i, model, most, strings.Repeat("word ", rand.IntN(20)))
		}
	}
	path := filepath.Join(t.TempDir(), "requests.jsonl")
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := built.Run(t.Context(), env, "batches", "create", path); err != nil {
		t.Fatal(err)
	}
}

func wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-t.Context().Done():
	case <-time.After(d):
	}
}
