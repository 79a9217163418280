package tracing

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // the server takes it
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"fusillade/internal/testenv"
)

// collector is a receiver of OTLP, by both protocols, which may fail first.
type collector struct {
	collectorpb.UnimplementedTraceServiceServer

	mu     sync.Mutex
	fails  int // so many exports fail before one succeeds
	asked  int
	names  []string // of spans that were taken
	header string   // of the last export, named key
	failed error    // of gRPC
	status int      // of HTTP
	// rejects is how many spans it says that it did not take.
	rejects int64
}

func (c *collector) take(key string, spans []*tracepb.ResourceSpans) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked++
	c.header = key
	if c.fails > 0 {
		c.fails--
		return false
	}
	for _, resource := range spans {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				c.names = append(c.names, span.GetName())
			}
		}
	}
	return true
}

func (c *collector) Export(ctx context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if !c.take(strings.Join(md.Get("key"), ""), r.GetResourceSpans()) {
		return nil, c.failed
	}
	return c.answer(), nil
}

func (c *collector) answer() *collectorpb.ExportTraceServiceResponse {
	if c.rejects == 0 {
		return &collectorpb.ExportTraceServiceResponse{}
	}
	return &collectorpb.ExportTraceServiceResponse{PartialSuccess: &collectorpb.ExportTracePartialSuccess{ErrorMessage: "too old", RejectedSpans: c.rejects}}
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body io.Reader = r.Body
	if r.Header.Get("Content-Encoding") == "gzip" {
		var err error
		if body, err = gzip.NewReader(r.Body); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
	}
	raw, err := io.ReadAll(body)
	var export collectorpb.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(raw, &export) != nil || r.Header.Get("Content-Type") != "application/x-protobuf" || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if !c.take(r.Header.Get("Key"), export.GetResourceSpans()) {
		w.WriteHeader(c.status)
		return
	}
	raw, err = proto.Marshal(c.answer())
	if err == nil {
		w.Header().Set("Content-Type", "application/x-protobuf")
		_, _ = w.Write(raw)
	}
}

func (c *collector) got() (asked int, names, header string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asked, strings.Join(c.names, " "), c.header
}

// serveHTTP and serveGRPC return the configuration that leads to the collector.
func (c *collector) serveHTTP(t *testing.T, withTLS bool) Config {
	t.Helper()
	server := httptest.NewUnstartedServer(c)
	if withTLS {
		server.EnableHTTP2 = true
		server.StartTLS()
	} else {
		server.Start()
	}
	t.Cleanup(server.Close)
	cfg := config(t, server.URL+"/v1/traces")
	if withTLS {
		cfg.TLS = server.Client().Transport.(*http.Transport).TLSClientConfig
	}
	return cfg
}

func (c *collector) serveGRPC(t *testing.T, withTLS bool) Config {
	t.Helper()
	var options []grpc.ServerOption
	scheme := "http://"
	var trusted *httptest.Server
	if withTLS {
		trusted = httptest.NewTLSServer(nil) // for its certificate
		t.Cleanup(trusted.Close)
		options, scheme = append(options, grpc.Creds(credentials.NewTLS(trusted.TLS))), "https://"
	}
	server := grpc.NewServer(options...)
	collectorpb.RegisterTraceServiceServer(server, c)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	cfg := config(t, scheme+listener.Addr().String())
	cfg.GRPC = true
	if withTLS {
		cfg.TLS = trusted.Client().Transport.(*http.Transport).TLSClientConfig
	}
	return cfg
}

func config(t *testing.T, endpoint string) Config {
	t.Helper()
	u, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		Endpoint: u, Headers: map[string]string{"key": "k"}, Timeout: 20 * time.Second, Sampler: NewSampler("always_on", 1),
		Attributes: []attribute.KeyValue{attribute.String("service.name", "test")}, QueueSize: 100, BatchSize: 10, Delay: 10 * time.Millisecond, Log: testenv.Logger(t),
	}
}

func export(t *testing.T, cfg Config, names ...string) {
	t.Helper()
	tracer, stop, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		_, span := tracer.Start(t.Context(), name)
		span.End()
	}
	stop(t.Context())
}

func TestExport(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		grpc, tls, gzip bool
	}{
		{"HTTP", false, false, false}, {"HTTP gzip", false, false, true}, {"HTTPS", false, true, false},
		{"gRPC", true, false, false}, {"gRPC gzip", true, false, true}, {"gRPC TLS", true, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			// It fails twice in a way that passes.
			c := &collector{fails: 2, status: http.StatusServiceUnavailable, failed: status.Error(codes.Unavailable, "later")}
			serve := c.serveHTTP
			if tt.grpc {
				serve = c.serveGRPC
			}
			cfg := serve(t, tt.tls)
			cfg.Gzip = tt.gzip
			export(t, cfg, "a", "b", "c")
			if asked, names, header := c.got(); names != "a b c" || header != "k" || asked < 3 {
				t.Errorf("after %d exports the collector has %q, with the header %q", asked, names, header)
			}
		})
	}
}

// What a collector refuses for good is not sent again.
func TestRefusedForGood(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		grpc bool
		want string
	}{{false, "status 400"}, {true, `gRPC status "16"`}} {
		c := &collector{fails: 100, status: http.StatusBadRequest, failed: status.Error(codes.Unauthenticated, "no")}
		serve := c.serveHTTP
		if tt.grpc {
			serve = c.serveGRPC
		}
		err := upload(t, serve(t, false))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("error %v, want %s", err, tt.want)
		}
		if asked, _, _ := c.got(); asked != 1 {
			t.Errorf("it was asked %d times, want once", asked)
		}
	}
}

// A collector that takes a part says so, and is not sent the rest again.
func TestRejectedSpans(t *testing.T) {
	t.Parallel()
	for _, grpc := range []bool{false, true} {
		c := &collector{rejects: 300}
		serve := c.serveHTTP
		if grpc {
			serve = c.serveGRPC
		}
		if err := upload(t, serve(t, false)); err == nil || !strings.Contains(err.Error(), "rejected 300 spans") {
			t.Errorf("error %v", err)
		}
		if asked, _, _ := c.got(); asked != 1 {
			t.Errorf("it was asked %d times, want once", asked)
		}
	}
}

// An address with the other protocol is told.
func TestWrongProtocol(t *testing.T) {
	t.Parallel()
	c := new(collector)
	cfg := c.serveHTTP(t, true)
	cfg.GRPC = true
	if err := upload(t, cfg); err == nil || !strings.Contains(err.Error(), "status 400") {
		t.Errorf("gRPC to an HTTP collector: %v", err)
	}
}

func upload(t *testing.T, cfg Config) error {
	t.Helper()
	c := newClient(cfg)
	defer func() { _ = c.Stop(t.Context()) }()
	return c.UploadTraces(t.Context(), []*tracepb.ResourceSpans{{}})
}

// A collector that is away, or does not answer, holds up neither the spans nor the
// stop; it is logged once.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for _, grpc := range []bool{false, true} {
		for _, endpoint := range []string{"http://127.0.0.1:1/v1/traces", "http://" + silent.Addr().String() + "/v1/traces"} {
			var log lines
			cfg := config(t, endpoint)
			var dropped atomic.Int64
			cfg.Dropped = func(n float64) { dropped.Add(int64(n)) }
			cfg.GRPC, cfg.Timeout, cfg.Log = grpc, 100*time.Millisecond, slog.New(slog.NewTextHandler(&log, nil))
			tracer, stop, err := Start(t.Context(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			for range 1000 { // ten times what the queue takes
				_, span := tracer.Start(t.Context(), "x")
				span.End()
			}
			testenv.Eventually(t, "the failure is logged", func() bool { return strings.Contains(log.String(), "cannot be exported") })
			ended, cancel := context.WithTimeout(t.Context(), testenv.Patience)
			stop(ended)
			cancel()
			if n := dropped.Load(); n != 1000 {
				t.Errorf("%s: %d spans are counted as dropped, want all 1000", endpoint, n)
			}
			if n := strings.Count(log.String(), "cannot be exported"); n != 1 {
				t.Errorf("%s: %d lines about exports that fail:\n%s", endpoint, n, log.String())
			}
		}
	}
	_ = silent.Close()
}

func TestFailuresAreLogged(t *testing.T) {
	t.Parallel()
	var log lines
	dropped := 0.0
	i := &account{log: slog.New(slog.NewTextHandler(&log, nil)), count: func(n float64) { dropped += n }}
	i.succeeded()
	for range 5 {
		i.failed(errors.New("away"), 10)
	}
	i.succeeded()
	i.succeeded()
	if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "dropped=50") || dropped != 50 {
		t.Errorf("log:\n%s", got)
	}
}

// lines is a log that several goroutines write.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
