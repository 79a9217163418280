package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/config"
	"fusillade/migrations"
)

// Finding is what Diagnose found out about one thing that settings name.
type Finding struct {
	What string `json:"what"` // postgres, migrations, clock, nats, traces, or an endpoint
	OK   bool   `json:"ok"`
	Text string `json:"text"`
}

const (
	// diagnoseTimeout bounds each look.
	diagnoseTimeout = 10 * time.Second
	// maxSkew is what deadlines bear: Postgres's clock decides them, and a
	// process's own shows in logs and plots alone.
	maxSkew = 2 * time.Second
)

// Diagnose looks at everything outside that the settings name, and calls nothing
// that costs.
func Diagnose(ctx context.Context, cfg *config.Standalone) (found []Finding) {
	add := func(what string, text string, err error) {
		if err != nil {
			text = err.Error()
		}
		found = append(found, Finding{What: what, OK: err == nil, Text: text})
	}
	if cfg.Postgres.URL.IsSet() {
		diagnosePostgres(ctx, cfg.Postgres.URL.Reveal(), add)
	} else {
		add("postgres", "embedded: fusillade run and serve start their own", nil)
	}
	if cfg.NATS.URL.IsSet() {
		text, err := diagnoseNATS(cfg.NATS)
		add("nats", text, err)
	} else {
		add("nats", "embedded in fusillade run and serve", nil)
	}
	text, err := diagnoseTraces(ctx, &cfg.Traces)
	add("traces", text, err)
	for _, e := range Endpoints(&cfg.Upstream) {
		add("endpoint "+e.Name(), "takes connections", e.Reach(ctx))
	}
	return found
}

func diagnosePostgres(ctx context.Context, databaseURL string, add func(what, text string, err error)) {
	ctx, cancel := context.WithTimeout(ctx, diagnoseTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		add("postgres", "", fmt.Errorf("cannot be connected to: %w", err)) // pgx hides the password
		return
	}
	defer conn.Close(ctx)
	var version, user, database string
	var readOnly bool
	var now time.Time
	began := time.Now()
	err = conn.QueryRow(ctx, `SELECT current_setting('server_version'), current_user, current_database(),
pg_is_in_recovery() OR current_setting('transaction_read_only')::bool, clock_timestamp()`).Scan(&version, &user, &database, &readOnly, &now)
	trip := time.Since(began)
	if err == nil && readOnly {
		err = errors.New("takes no writes: it is a standby, or default_transaction_read_only is on")
	}
	add("postgres", fmt.Sprintf("version %s, database %s as %s, answers in %v", version, database, user, trip.Round(time.Millisecond/10)), err)
	if err != nil && now.IsZero() {
		return
	}
	skew := now.Sub(began.Add(trip / 2))
	err = nil
	if skew.Abs() > maxSkew {
		err = fmt.Errorf("Postgres's clock is %v from this machine's: set both by NTP", skew.Round(time.Millisecond))
	}
	add("clock", fmt.Sprintf("Postgres's is within %v of this machine's", (skew.Abs()+trip/2).Round(time.Millisecond)), err)
	list, err := migrations.List(ctx, databaseURL)
	missing := 0
	for _, m := range list {
		if m.AppliedAt.IsZero() {
			missing++
		}
	}
	if err == nil && missing > 0 {
		err = fmt.Errorf("%d of %d are missing: run `fusillade migrate up`", missing, len(list))
	}
	add("migrations", fmt.Sprintf("all %d are applied", len(list)), err)
}

func diagnoseNATS(cfg config.NATS) (string, error) {
	conn, err := dial(cfg, "cli", slog.New(slog.DiscardHandler))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	trip, err := conn.RTT()
	if err != nil {
		return "", fmt.Errorf("does not answer: %w", err)
	}
	js, err := conn.JetStream()
	if err != nil {
		return "", err
	}
	info, err := js.AccountInfo()
	if err != nil {
		return "", fmt.Errorf("JetStream cannot be used: %w", err)
	}
	return fmt.Sprintf("version %s, answers in %v, JetStream with %d streams", conn.ConnectedServerVersion(), trip.Round(time.Millisecond/10), info.Streams), nil
}

// diagnoseTraces looks whether the collector takes connections. A process works
// without it, and its spans are lost.
func diagnoseTraces(ctx context.Context, t *config.Traces) (string, error) {
	if !t.TracesOn() {
		return "off: OTEL_EXPORTER_OTLP_ENDPOINT turns them on", nil
	}
	e, err := t.Export()
	if err != nil {
		return "", err
	}
	protocol := "http/protobuf"
	if e.GRPC {
		protocol = "grpc"
	}
	collector := e.Endpoint.Scheme + "://" + e.Endpoint.Host
	if err := connects(ctx, e.Endpoint); err != nil {
		return "", fmt.Errorf("the collector %s takes no connections, so that spans would be lost: %w", collector, err)
	}
	return fmt.Sprintf("on: by %s to %s, sampler %s", protocol, collector, e.Sampler), nil
}

// Endpoint is a model endpoint of the settings; any of its URLs will do.
type Endpoint struct {
	urls  []string
	proxy func(*url.URL) (*url.URL, error)
}

// Endpoints lists the endpoints of all models and of single ones, each once.
func Endpoints(u *config.Upstream) (list []Endpoint) {
	seen := make(map[string]bool)
	add := func(urls []string) {
		if key := fmt.Sprint(urls); len(urls) > 0 && !seen[key] {
			seen[key] = true
			list = append(list, Endpoint{urls, u.Proxy.For()})
		}
	}
	add(u.URL.All())
	for _, own := range u.Models {
		add(own.URL.All())
	}
	return list
}

// Name is where it is, without a secret.
func (e Endpoint) Name() string {
	parsed, err := url.Parse(e.urls[0])
	if err != nil {
		return "(not a URL)"
	}
	return parsed.Scheme + "://" + parsed.Host
}

// Reach finds out whether one of its URLs takes connections. What is behind a
// proxy is not looked at.
func (e Endpoint) Reach(ctx context.Context) (err error) {
	for _, target := range e.urls {
		failed := e.dial(ctx, target)
		if failed == nil {
			return nil
		}
		if err == nil {
			err = failed
		}
	}
	return err
}

func (e Endpoint) dial(ctx context.Context, target string) error {
	parsed, err := url.Parse(target)
	if err != nil {
		return errors.New("the endpoint's address is not a URL")
	}
	if e.proxy != nil {
		if via, err := e.proxy(parsed); via != nil || err != nil {
			return err
		}
	}
	if err := connects(ctx, parsed); err != nil {
		return fmt.Errorf("the upstream %s://%s cannot be reached: %w", parsed.Scheme, parsed.Host, err)
	}
	return nil
}

// connects finds out whether a server takes connections.
func connects(ctx context.Context, server *url.URL) error {
	port := server.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[server.Scheme]
	}
	dialer := net.Dialer{Timeout: diagnoseTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(server.Hostname(), port))
	if err != nil {
		return err
	}
	return conn.Close()
}
