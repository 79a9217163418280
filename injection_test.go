package fusillade_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"

	"fusillade"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

func newPool(t *testing.T, url string, change func(*pgxpool.Config)) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	cfg.MaxConns = 10
	if change != nil {
		change(cfg)
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// The program's own pool is used, whatever its sessions are set to, and stays open.
func TestPool(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	var pool *pgxpool.Pool
	p := newProgram(t, mock.Settings{}, func(c *fusillade.Config) {
		url := c.DatabaseURL
		pool = newPool(t, url, func(pc *pgxpool.Config) {
			for name, value := range map[string]string{
				"TimeZone": "Asia/Tokyo", "DateStyle": "German", "IntervalStyle": "sql_standard", "synchronous_commit": "off", "statement_timeout": "60000",
			} {
				pc.ConnConfig.RuntimeParams[name] = value
			}
			database := pc.ConnConfig.Database
			pc.ConnConfig.Database = "is decided later"
			pc.BeforeConnect = func(_ context.Context, cc *pgx.ConnConfig) error {
				opened.Add(1)
				cc.Database = database
				return nil
			}
		})
		c.Pool = pool
	})
	p.run()
	const n = 50
	if b := p.wait(p.submit(n)); b.Completed != n {
		t.Errorf("%+v", b)
	}
	if opened.Load() < 3 {
		t.Errorf("%d sessions were opened as the pool opens its own", opened.Load())
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	var zone string
	if err := pool.QueryRow(t.Context(), `SHOW TimeZone`).Scan(&zone); err != nil || zone != "Asia/Tokyo" {
		t.Errorf("the pool's sessions are in %q, %v", zone, err)
	}
}

// A pool that cannot be worked with is refused, with what to do.
func TestPoolThatIsRefused(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*pgxpool.Config){
		"pool_max_conns": func(pc *pgxpool.Config) { pc.MaxConns = 2 },
		"default_transaction_isolation": func(pc *pgxpool.Config) {
			pc.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
		},
		"search_path": func(pc *pgxpool.Config) {
			pc.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
				_, err := c.Exec(ctx, `SET search_path = elsewhere`)
				return err
			}
		},
	} {
		cfg := fusillade.DefaultConfig()
		cfg.Pool, cfg.NATS, cfg.Upstream = newPool(t, testenv.DatabaseURL(t), change), testenv.Connect(t, testenv.NATS(t)), "http://127.0.0.1:1"
		if f, err := fusillade.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, %v", want, f, err)
		}
	}
}

// Metrics are registered with the program's registerer, of one Fusillade.
func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	p := newProgram(t, mock.Settings{}, func(c *fusillade.Config) {
		c.Metrics = prometheus.WrapRegistererWith(prometheus.Labels{"program": "nightly"}, registry)
		c.OnResult = func(context.Context, fusillade.Result) error { return nil }
	})
	p.run()
	p.wait(p.submit(3))
	finished := func() (families map[string]float64) {
		families = make(map[string]float64)
		all, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range all {
			for _, m := range f.GetMetric() {
				families[f.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
		return families
	}
	testenv.Eventually(t, "the program is called", func() bool { return finished()["fusillade_callbacks_total"] == 3 })
	if all := finished(); all["fusillade_requests_finished_total"] != 3 || all["fusillade_running"] != 1 {
		t.Errorf("%v", all)
	}
	if _, err := fusillade.New(t.Context(), p.cfg); err == nil || !strings.Contains(err.Error(), "WrapRegistererWith") {
		t.Errorf("a second one with the same registerer: %v", err)
	}
}

// roundTripper answers by itself.
type roundTripper func(*http.Request) (*http.Response, error)

// RoundTrip implements http.RoundTripper.
func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func answer(r *http.Request) *http.Response {
	return &http.Response{
		StatusCode: 200, Request: r, ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1,
		Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(bytes.NewReader([]byte(testenv.ChatAnswer("hello")))),
	}
}

// Calls go through the program's transport, errors included, and no other way.
func TestTransport(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	p := newProgram(t, mock.Settings{}, func(c *fusillade.Config) {
		c.Upstream, c.UpstreamKey, c.Backoff, c.MaxBackoff = "https://nowhere.invalid/v1", "sk-1", 1e6, 1e6
		c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
			if calls.Add(1) == 1 {
				return nil, errors.New("the network is away")
			}
			if r.Header.Get("Authorization") != "Bearer sk-1" || r.URL.Host != "nowhere.invalid" {
				t.Errorf("%s with %v", r.URL, r.Header)
			}
			return answer(r), nil
		})
	})
	p.run()
	if b := p.wait(p.submit(5)); b.Completed != 5 {
		t.Errorf("%+v", b)
	}
	if calls.Load() != 6 || len(p.mock.CustomIDs()) != 0 {
		t.Errorf("%d calls of the transport, %d of the endpoint", calls.Load(), len(p.mock.CustomIDs()))
	}
}
