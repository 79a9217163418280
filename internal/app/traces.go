package app

import (
	"cmp"
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"

	"fusillade/internal/config"
	"fusillade/internal/daemon"
	"fusillade/internal/telemetry"
	"fusillade/internal/tracing"
)

// stopTracesTimeout is how long the last spans have to be exported.
const stopTracesTimeout = 5 * time.Second

// StartTraces begins to export spans, if the settings say where to; else the tracer
// is nil. program is the name of the service where they give none. The caller calls
// stop when all else has ended.
// What is dropped is counted among the metrics of shown; nil: nowhere.
func StartTraces(ctx context.Context, program string, t *config.Traces, shown *Telemetry, log *slog.Logger) (tracer *tracing.Tracer, stop func(), err error) {
	if !t.TracesOn() {
		return nil, func() {}, nil
	}
	e, err := t.Export()
	if err != nil {
		return nil, nil, err
	}
	attributes := make([]attribute.KeyValue, 0, len(e.Attributes)+5)
	attributes = append(attributes,
		attribute.String("service.name", cmp.Or(e.ServiceName, e.Attributes["service.name"], program)),
		attribute.String("service.version", daemon.Version), attribute.String("service.instance.id", uuid.NewString()),
		attribute.Int("process.pid", os.Getpid()))
	if host, err := os.Hostname(); err == nil {
		attributes = append(attributes, attribute.String("host.name", host))
	}
	for name, value := range e.Attributes {
		if name != "service.name" {
			attributes = append(attributes, attribute.String(name, value)) // of two, the last one counts
		}
	}
	tracer, end, err := tracing.Start(ctx, tracing.Config{
		Endpoint: e.Endpoint, GRPC: e.GRPC, Headers: e.Headers, Timeout: e.Timeout, Gzip: e.Gzip, TLS: e.TLS,
		Sampler: tracing.NewSampler(e.Sampler, e.Ratio), Attributes: attributes,
		QueueSize: e.QueueSize, BatchSize: e.BatchSize, Delay: e.Delay, Dropped: telemetry.SpansDropped(shown.metrics()).Add, Log: log,
	})
	if err != nil {
		return nil, nil, err
	}
	log.Info("spans are exported", "endpoint", e.Endpoint.Scheme+"://"+e.Endpoint.Host, "sampler", e.Sampler)
	return tracer, func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTracesTimeout)
		defer cancel()
		end(stopping)
	}, nil
}
