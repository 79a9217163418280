package config

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var otelRole = []string{"FUSILLADE_DATABASE_URL=postgres://x/y", "FUSILLADE_NATS_URL=nats://x"}

func TestTracesAreOffUnlessAskedFor(t *testing.T) {
	for _, tt := range []struct {
		environ string
		on      bool
	}{
		{"", false},
		{"OTEL_SERVICE_NAME=x OTEL_TRACES_SAMPLER=always_on", false},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", false},
		{"OTEL_SDK_DISABLED=TRUE OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=", false},
		// What nobody uses is not looked at.
		{"OTEL_SDK_DISABLED=true OTEL_TRACES_SAMPLER=coin OTEL_EXPORTER_OTLP_ENDPOINT=c:4318", false},
		{"OTEL_TRACES_SAMPLER=coin", false},
		{"OTEL_TRACES_EXPORTER=otlp", true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://c:4318/x", true},
	} {
		t.Run(tt.environ, func(t *testing.T) {
			setenv(t, otelRole...)
			setenv(t, strings.Fields(tt.environ)...)
			var cfg Consumer
			if err := Load(&cfg); err != nil {
				t.Fatal(err)
			}
			if cfg.TracesOn() != tt.on {
				t.Errorf("traces on: %v", cfg.TracesOn())
			}
		})
	}
}

func TestTraceEndpoints(t *testing.T) {
	for _, tt := range []struct {
		environ, want string
		grpc          bool
	}{
		{"OTEL_TRACES_EXPORTER=otlp", "http://localhost:4318/v1/traces", false},
		{"OTEL_TRACES_EXPORTER=otlp OTEL_EXPORTER_OTLP_PROTOCOL=grpc", "http://localhost:4317", true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=https://c", "https://c/v1/traces", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1/base/", "http://c:1/base/v1/traces", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1/base?k=v", "http://c:1/base/v1/traces?k=v", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1 OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://d/spans", "http://d/spans", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1 OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=grpc", "http://c:1", true},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://c:1 OTEL_EXPORTER_OTLP_PROTOCOL=grpc OTEL_EXPORTER_OTLP_TRACES_PROTOCOL=", "http://c:1", true},
	} {
		t.Run(tt.environ, func(t *testing.T) {
			setenv(t, otelRole...)
			setenv(t, strings.Fields(tt.environ)...)
			var cfg API
			if err := Load(&cfg); err != nil {
				t.Fatal(err)
			}
			e, err := cfg.Export()
			if err != nil || e.Endpoint.String() != tt.want || e.GRPC != tt.grpc {
				t.Errorf("%v, gRPC %v, %v; want %s, %v", e.Endpoint, e.GRPC, err, tt.want, tt.grpc)
			}
		})
	}
}

func TestTraceValues(t *testing.T) {
	setenv(t, otelRole...)
	setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_EXPORTER_OTLP_HEADERS=api-key=a%20secret, x = y",
		"OTEL_EXPORTER_OTLP_TIMEOUT=1500", "OTEL_EXPORTER_OTLP_COMPRESSION=gzip", "OTEL_TRACES_SAMPLER=parentbased_traceidratio",
		"OTEL_TRACES_SAMPLER_ARG=0.25", "OTEL_SERVICE_NAME=mine", "OTEL_RESOURCE_ATTRIBUTES=deployment.environment.name=a%2Cb,k=v",
		"OTEL_BSP_MAX_QUEUE_SIZE=100", "OTEL_BSP_SCHEDULE_DELAY=7")
	var cfg Consumer
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	e, err := cfg.Export()
	if err != nil {
		t.Fatal(err)
	}
	e.Endpoint = nil
	want := TraceExport{
		Headers: map[string]string{"api-key": "a secret", "x": "y"}, Timeout: 1500 * time.Millisecond, Gzip: true,
		Sampler: "parentbased_traceidratio", Ratio: 0.25, ServiceName: "mine",
		Attributes: map[string]string{"deployment.environment.name": "a,b", "k": "v"},
		QueueSize:  100, BatchSize: 100, Delay: 7 * time.Millisecond,
	}
	if diff := cmp.Diff(want, e); diff != "" {
		t.Errorf("export (-want +got):\n%s", diff)
	}
	if shown := Snapshot(&cfg); shown["OTEL_EXPORTER_OTLP_HEADERS"] != redacted || shown["OTEL_SERVICE_NAME"] != "mine" {
		t.Errorf("shown as %v", shown)
	}
}

func TestBadTraceValues(t *testing.T) {
	for _, tt := range []struct{ variable, value, problem string }{
		{"OTEL_TRACES_EXPORTER", "zipkin", `is "zipkin", which is not supported (allowed: otlp or none)`},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "localhost:4318", "does not begin with http:// or https://"},
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@c:4318", "has a user or password"},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:99999", "has a port"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", `is "http/json", which is not supported (allowed: http/protobuf or grpc)`},
		{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http", "is not supported"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "secret", "has a bad element, number 1"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "a=b,c d=secret", "has a name or a value that no header can have"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "0", "out of range (allowed: a whole number of milliseconds"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s", "not a whole number"},
		{"OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "not supported"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", "/nonexistent", "cannot be read"},
		{"OTEL_EXPORTER_OTLP_CLIENT_KEY", "/nonexistent", "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE"},
		{"OTEL_TRACES_SAMPLER", "coin", "not supported (allowed: always_on,"},
		{"OTEL_TRACES_SAMPLER_ARG", "1.5", "is not a number from 0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG", "NaN", "is not a number from 0 to 1"},
		{"OTEL_TRACES_SAMPLER_ARG", "10%", "is not a number from 0 to 1"},
		{"OTEL_RESOURCE_ATTRIBUTES", "a=b,c", "has a bad element, number 2"},
		{"OTEL_RESOURCE_ATTRIBUTES", "a=%zz", "has a bad element, number 1"},
		{"OTEL_BSP_MAX_QUEUE_SIZE", "-1", "out of range"},
		{"OTEL_BSP_SCHEDULE_DELAY", "x", "not a whole number"},
		{"OTEL_SDK_DISABLED", "yes", `is "yes", which is neither true nor false`},
	} {
		t.Run(tt.variable+"="+tt.value, func(t *testing.T) {
			setenv(t, otelRole...)
			setenv(t, "OTEL_EXPORTER_OTLP_ENDPOINT=http://c:4318", "OTEL_TRACES_SAMPLER=traceidratio", tt.variable+"="+tt.value)
			for _, dst := range []Settings{new(Consumer), new(Dispatcher), new(API), new(Standalone)} {
				err := Load(dst)
				if err == nil || !strings.Contains(err.Error(), "\n  "+tt.variable+" "+tt.problem) && !strings.Contains(err.Error(), tt.problem) || !strings.Contains(err.Error(), tt.variable) {
					t.Errorf("%T: %v", dst, err)
				}
				if err != nil && strings.Contains(err.Error(), "secret") {
					t.Errorf("the error shows a secret: %v", err)
				}
			}
		})
	}
}

// A password in an address is shown nowhere, whether or not it is used.
func TestTraceEndpointIsMasked(t *testing.T) {
	setenv(t, otelRole...)
	setenv(t, "OTEL_TRACES_EXPORTER=none", "OTEL_EXPORTER_OTLP_ENDPOINT=http://user:hunter2@c:4318/?token=hunter3")
	var cfg Consumer
	if err := Load(&cfg); err != nil {
		t.Fatal(err)
	}
	if shown := Snapshot(&cfg)["OTEL_EXPORTER_OTLP_ENDPOINT"]; strings.Contains(shown, "hunter") || !strings.Contains(shown, "c:4318") {
		t.Errorf("shown as %s", shown)
	}
}
