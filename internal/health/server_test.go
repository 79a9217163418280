package health_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"fusillade/internal/health"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs a server until stop, which returns what Run returned.
func serve(t *testing.T, cfg health.Config) (url string, stop func() error) {
	t.Helper()
	cfg.Addr, cfg.Log = "127.0.0.1:0", testenv.Logger(t)
	if cfg.Alive == nil {
		cfg.Alive = func() error { return nil }
	}
	if cfg.Metrics == nil {
		cfg.Metrics = health.NewRegistry("v1")
	}
	s, err := health.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	var once atomic.Bool
	stop = func() error {
		cancel()
		if once.Swap(true) {
			return nil
		}
		return <-done
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String(), stop
}

// request returns the status and the body of an answer.
func request(t *testing.T, method, url string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestLivez(t *testing.T) {
	t.Parallel()
	var stuck atomic.Bool
	url, _ := serve(t, health.Config{Alive: func() error {
		if stuck.Load() {
			return errors.New("the claim loop has not moved for 1m0s")
		}
		return nil
	}})
	for _, tt := range []struct {
		stuck  bool
		status int
		body   string
	}{
		{false, 200, `{"status":"alive"}`},
		{true, 503, `{"status":"stuck","reasons":[{"error":"the claim loop has not moved for 1m0s"}]}`},
		{false, 200, `{"status":"alive"}`},
	} {
		stuck.Store(tt.stuck)
		status, body := request(t, "GET", url+"/livez")
		if status != tt.status || strings.TrimSpace(body) != tt.body {
			t.Errorf("stuck %v: %d %s", tt.stuck, status, body)
		}
	}
}

func TestReadyz(t *testing.T) {
	t.Parallel()
	var failing atomic.Value
	failing.Store("")
	check := func(name string) health.Check {
		return health.Check{Name: name, Do: func(context.Context) error {
			if strings.Contains(failing.Load().(string), name) {
				return errors.New("no answer")
			}
			return nil
		}}
	}
	url, _ := serve(t, health.Config{Ready: []health.Check{check("nats"), check("postgres")}})
	type reason struct{ Check, Error string }
	for _, tt := range []struct {
		failing string
		status  int
		word    string
		reasons []reason
	}{
		{"", 200, "ready", nil},
		{"postgres", 503, "not ready", []reason{{"postgres", "no answer"}}},
		{"nats and postgres", 503, "not ready", []reason{{"nats", "no answer"}, {"postgres", "no answer"}}},
		{"", 200, "ready", nil},
	} {
		failing.Store(tt.failing)
		status, body := request(t, "GET", url+"/readyz")
		var got struct {
			Status  string
			Reasons []reason
		}
		if err := json.Unmarshal([]byte(body), &got); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		if status != tt.status || got.Status != tt.word || !cmp.Equal(got.Reasons, tt.reasons) {
			t.Errorf("with %q failing: %d %s", tt.failing, status, body)
		}
	}
}

// However many ask at once, one check is made at a time, and its context ends.
func TestReadyzChecksInTurn(t *testing.T) {
	t.Parallel()
	var running, most atomic.Int32
	url, _ := serve(t, health.Config{Ready: []health.Check{{Name: "slow", Do: func(ctx context.Context) error {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		if _, ok := ctx.Deadline(); !ok {
			t.Error("a check without a deadline")
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
		return nil
	}}}})
	answers := make(chan int, 8)
	for range cap(answers) {
		go func() {
			status, _ := request(t, "GET", url+"/readyz")
			answers <- status
		}()
	}
	for range cap(answers) {
		if status := <-answers; status != 200 {
			t.Errorf("status %d", status)
		}
	}
	if n := most.Load(); n != 1 {
		t.Errorf("%d checks at once", n)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, health.Config{Metrics: health.NewRegistry("v1.2.3")})
	status, body := request(t, "GET", url+"/metrics")
	if status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	for _, want := range []string{`fusillade_build_info{go_version="go`, `version="v1.2.3"} 1`, "\ngo_goroutines ", "\nprocess_cpu_seconds_total "} {
		if !strings.Contains(body, want) {
			t.Errorf("no %q in\n%s", want, body)
		}
	}
}

func TestOnlyReads(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, health.Config{})
	for _, tt := range []struct {
		method, path string
		want         int
	}{
		{"POST", "/livez", 405}, {"DELETE", "/readyz", 405}, {"POST", "/metrics", 405}, {"GET", "/", 404}, {"GET", "/debug/pprof/", 404},
		{"HEAD", "/livez", 200},
	} {
		if status, _ := request(t, tt.method, url+tt.path); status != tt.want {
			t.Errorf("%s %s: status %d, want %d", tt.method, tt.path, status, tt.want)
		}
	}
}

// Profiles are served to nobody unless they were switched on.
func TestProfiles(t *testing.T) {
	t.Parallel()
	paths := []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1", "/debug/pprof/profile?seconds=1"}
	off, _ := serve(t, health.Config{})
	on, _ := serve(t, health.Config{Profiles: true})
	for _, path := range paths {
		if status, _ := request(t, "GET", off+path); status != 404 {
			t.Errorf("GET %s: status %d where profiles are off, want 404", path, status)
		}
		if status, body := request(t, "GET", on+path); status != 200 || body == "" {
			t.Errorf("GET %s: status %d where profiles are on, want 200", path, status)
		}
	}
}

func TestPortInUse(t *testing.T) {
	t.Parallel()
	url, _ := serve(t, health.Config{})
	taken := strings.TrimPrefix(url, "http://")
	for addr, want := range map[string]string{taken: "in use", "256.256.256.256:1": "cannot listen"} {
		_, err := health.New(t.Context(), health.Config{
			Addr: addr, Alive: func() error { return nil }, Metrics: health.NewRegistry("v1"), Log: testenv.Logger(t),
		})
		if err == nil || !strings.Contains(err.Error(), "FUSILLADE_ADMIN_ADDR is "+addr) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v", addr, err)
		}
	}
}

// A request in the middle is answered, and nothing is afterwards.
func TestStopIsGraceful(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	url, stop := serve(t, health.Config{Ready: []health.Check{{Name: "slow", Do: func(context.Context) error {
		close(entered)
		<-leave
		return nil
	}}}})
	answered, stopped := make(chan int, 1), make(chan error, 1)
	go func() {
		status, _ := request(t, "GET", url+"/readyz")
		answered <- status
	}()
	<-entered
	go func() { stopped <- stop() }()
	close(leave)
	if status := <-answered; status != 200 {
		t.Errorf("status %d", status)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run = %v", err)
	}
	client := &http.Client{Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(t.Context(), "GET", url+"/livez", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := client.Do(req); err == nil {
		_ = resp.Body.Close()
		t.Error("the server answers after its end")
	}
}
