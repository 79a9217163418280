package embed_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"fusillade"
	"fusillade/fusilladetest"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

var built programs.Dir

func TestMain(m *testing.M) {
	programs.Main(m, &built, func() (programs.Dir, error) { return programs.Build("../..", "examples", "./examples/embed/...") })
}

func endpoint(t *testing.T, answer http.Handler) (url string) {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return server.URL
}

func hello(fusilladetest.Call) (int, string) { return 200, "hello" }

// The nightly job is begun twice, and calls each request once.
func TestNightly(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	url := endpoint(t, fusilladetest.Answers(func(c fusilladetest.Call) (int, string) {
		calls.Add(1)
		return hello(c)
	}))
	dir := testenv.EnterableDir(t)
	for range 2 {
		p := built.Start(t, programs.Environment(), "nightly", dir, url, filepath.Join("..", "requests.jsonl"))
		p.WantExit(t, 0, "completed: 40 of 40 completed")
	}
	if calls.Load() != 40 {
		t.Errorf("%d calls, want 40", calls.Load())
	}
}

// Each order has its letter.
func TestOrders(t *testing.T) {
	t.Parallel()
	p := built.Start(t, programs.Environment(), "orders", testenv.DatabaseURL(t), testenv.NATS(t).URL(), endpoint(t, fusilladetest.Answers(hello)), "Ada", "Grace", "Edsger")
	p.WantExit(t, 0, "3 orders, 3 letters")
}

// The consumer works beside a dispatcher elsewhere, by its own rule, and signs its calls.
func TestConsumer(t *testing.T) {
	t.Parallel()
	var calls, unsigned atomic.Int64
	answers := fusilladetest.Answers(func(c fusilladetest.Call) (int, string) {
		if calls.Add(1) == 1 {
			return 400, "please try again"
		}
		return hello(c)
	})
	url := endpoint(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Signature") == "" {
			unsigned.Add(1)
		}
		answers.ServeHTTP(w, r)
	}))
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.Upstream, cfg.Role = testenv.DatabaseURL(t), url, fusillade.RoleDispatcher
	broker := testenv.NATS(t).URL()
	var err error
	if cfg.NATS, err = nats.Connect(broker); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.NATS.Close)
	f, err := fusillade.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	testenv.Run(t, f.Run)
	p := built.Start(t, programs.Environment(), "consumer", cfg.DatabaseURL, broker, url)
	id, err := f.SubmitFile(t.Context(), strings.NewReader(`{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}`), fusillade.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if b, err := f.Wait(t.Context(), id); err != nil || b.Completed != 1 {
		t.Errorf("%+v, %v", b, err)
	}
	if calls.Load() != 2 || unsigned.Load() != 0 {
		t.Errorf("%d calls, %d of them unsigned", calls.Load(), unsigned.Load())
	}
	p.Signal(os.Interrupt)
	p.WantExit(t, 0)
}
