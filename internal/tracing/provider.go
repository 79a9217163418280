package tracing

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/url"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// Config says where spans go, and which are made.
type Config struct {
	// Endpoint takes the spans: of OTLP/HTTP the whole URL, of OTLP/gRPC scheme, host
	// and port.
	Endpoint *url.URL
	GRPC     bool
	Headers  map[string]string // sent with each export; may hold a key
	Timeout  time.Duration     // of an export, with all of its tries
	Gzip     bool
	TLS      *tls.Config // of an https endpoint; nil: the system's authorities
	Sampler  sdktrace.Sampler
	// Attributes are of the process: service.name and others.
	Attributes []attribute.KeyValue
	// What waits to be exported, in spans; what is more is dropped.
	QueueSize, BatchSize int
	// Delay is the longest that an ended span waits for others.
	Delay time.Duration
	// Dropped is told how many spans were made and not exported; nil: nobody is.
	Dropped func(float64)
	Log     *slog.Logger
}

// maxLinks is as many as the largest flush of a consumer has requests.
const maxLinks = 512

// Start begins to export spans. The caller calls stop, which exports what is left
// until its context ends.
func Start(ctx context.Context, cfg Config) (t *Tracer, stop func(context.Context), err error) {
	of := &account{log: cfg.Log, count: cfg.Dropped, room: int64(cfg.QueueSize + cfg.BatchSize)}
	if of.count == nil {
		of.count = func(float64) {}
	}
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) { of.failed(err, 0) }))
	exporter, err := otlptrace.New(ctx, newClient(cfg))
	if err != nil {
		return nil, nil, fmt.Errorf("exporting spans: %w", err)
	}
	attributes, err := resource.Merge(
		resource.NewSchemaless(attribute.String("telemetry.sdk.name", "opentelemetry"), attribute.String("telemetry.sdk.language", "go"), attribute.String("telemetry.sdk.version", otel.Version())),
		resource.NewSchemaless(cfg.Attributes...))
	if err != nil {
		return nil, nil, fmt.Errorf("exporting spans: %w", err)
	}
	limits := sdktrace.NewSpanLimits()
	if limits.LinkCountLimit == sdktrace.DefaultLinkCountLimit {
		limits.LinkCountLimit = maxLinks
	}
	sampler := flushSampler{cfg.Sampler}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithSampler(sampler), sdktrace.WithIDGenerator(ids{}), sdktrace.WithResource(attributes), sdktrace.WithRawSpanLimits(limits),
		sdktrace.WithSpanProcessor(countedProcessor{sdktrace.NewBatchSpanProcessor(patientExporter{exporter, of},
			sdktrace.WithMaxQueueSize(cfg.QueueSize), sdktrace.WithMaxExportBatchSize(cfg.BatchSize), sdktrace.WithBatchTimeout(cfg.Delay), sdktrace.WithExportTimeout(cfg.Timeout)), of}))
	t = &Tracer{tracer: provider.Tracer(scope), sampler: sampler}
	return t, func(ctx context.Context) {
		if err := provider.Shutdown(ctx); err != nil {
			cfg.Log.Warn("spans were lost at the stop", "err", err)
		}
		of.overflowed(0) // nothing waits any more
	}, nil
}
