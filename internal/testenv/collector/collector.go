// Package collector is a receiver of spans for tests: it takes OTLP over HTTP and
// over gRPC, as OpenTelemetry's own servers read it.
package collector

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// Link leads to a span.
type Link struct{ Trace, Span string }

// Span is a span that was exported.
type Span struct {
	Service, Name, Kind string
	Trace, ID, Parent   string // Parent is empty for a root
	Start, End          time.Time
	Attributes          map[string]string
	Links               []Link
	Failed              bool
	Message             string // of its status
}

// Link is one to the span.
func (s Span) Link() Link { return Link{s.Trace, s.ID} }

// Collector has what was exported to it. It is safe for concurrent use.
type Collector struct {
	collectorpb.UnimplementedTraceServiceServer
	// HTTP and GRPC are its endpoints.
	HTTP, GRPC string

	mu    sync.Mutex
	spans []Span
	raw   strings.Builder // every text that was exported
}

// New starts a collector for a test.
func New(t testing.TB) *Collector {
	t.Helper()
	c := new(Collector)
	web := httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(web.Close)
	c.HTTP = web.URL
	server := grpc.NewServer()
	collectorpb.RegisterTraceServiceServer(server, c)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) })
	t.Cleanup(func() { server.Stop(); serving.Wait() })
	c.GRPC = "http://" + listener.Addr().String()
	return c
}

// Export implements collectorpb.TraceServiceServer.
func (c *Collector) Export(_ context.Context, r *collectorpb.ExportTraceServiceRequest) (*collectorpb.ExportTraceServiceResponse, error) {
	c.take(r.GetResourceSpans())
	return &collectorpb.ExportTraceServiceResponse{}, nil
}

func (c *Collector) serve(w http.ResponseWriter, r *http.Request) {
	raw, err := io.ReadAll(r.Body)
	var export collectorpb.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(raw, &export) != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.take(export.GetResourceSpans())
}

func (c *Collector) take(from []*tracepb.ResourceSpans) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range from {
		service := texts(resource.GetResource().GetAttributes())["service.name"]
		c.raw.WriteString(resource.String())
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					Service: service, Name: s.GetName(), Kind: strings.ToLower(strings.TrimPrefix(s.GetKind().String(), "SPAN_KIND_")),
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()),
					Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())),
					Attributes: texts(s.GetAttributes()), Failed: s.GetStatus().GetCode() == tracepb.Status_STATUS_CODE_ERROR, Message: s.GetStatus().GetMessage(),
				}
				for _, l := range s.GetLinks() {
					span.Links = append(span.Links, Link{hex.EncodeToString(l.GetTraceId()), hex.EncodeToString(l.GetSpanId())})
				}
				c.spans = append(c.spans, span)
			}
		}
	}
}

func texts(attributes []*commonpb.KeyValue) map[string]string {
	out := make(map[string]string, len(attributes))
	for _, a := range attributes {
		out[a.GetKey()] = text(a.GetValue())
	}
	return out
}

func text(v *commonpb.AnyValue) string {
	switch v := v.GetValue().(type) {
	case *commonpb.AnyValue_StringValue:
		return v.StringValue
	case *commonpb.AnyValue_ArrayValue:
		var all []string
		for _, one := range v.ArrayValue.GetValues() {
			all = append(all, text(one))
		}
		return strings.Join(all, ",")
	case *commonpb.AnyValue_IntValue:
		return fmt.Sprint(v.IntValue)
	case *commonpb.AnyValue_BoolValue:
		return fmt.Sprint(v.BoolValue)
	}
	return v.String()
}

// Spans are those so far for which a condition holds, by their start; nil: all.
func (c *Collector) Spans(of func(Span) bool) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Span
	for _, s := range c.spans {
		if of == nil || of(s) {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b Span) int { return a.Start.Compare(b.Start) })
	return out
}

// Trace are the spans of a trace.
func (c *Collector) Trace(id string) []Span {
	return c.Spans(func(s Span) bool { return s.Trace == id })
}

// Named are the spans with a name.
func (c *Collector) Named(name string) []Span {
	return c.Spans(func(s Span) bool { return s.Name == name })
}

// Text is everything that was exported, to look for what must not be in it.
func (c *Collector) Text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.raw.String()
}

// Print writes a trace as an indented text: its spans under their parents, with the
// time since the trace began, how long each took, and where its links lead.
func (c *Collector) Print(w io.Writer, trace string) {
	names := make(map[Link]string)
	for _, s := range c.Spans(nil) {
		names[s.Link()] = s.Name
	}
	spans := c.Trace(trace)
	fmt.Fprintf(w, "trace %s\n", trace)
	var under func(parent, indent string)
	under = func(parent, indent string) {
		for _, s := range spans {
			if s.Parent != parent && (parent != "" || slices.ContainsFunc(spans, func(p Span) bool { return p.ID == s.Parent })) {
				continue
			}
			failed := ""
			if s.Failed {
				failed = "  error: " + s.Message
			}
			fmt.Fprintf(w, "%s%-*s  %-20s %-8s  +%7.1f ms  %7.1f ms%s\n", indent, 34-len(indent), s.Name, s.Service, s.Kind,
				float64(s.Start.Sub(spans[0].Start))/1e6, float64(s.End.Sub(s.Start))/1e6, failed)
			for _, name := range slices.Sorted(maps.Keys(s.Attributes)) {
				fmt.Fprintf(w, "%s    %s = %s\n", indent, name, s.Attributes[name])
			}
			for _, l := range s.Links {
				fmt.Fprintf(w, "%s    link to %s of trace %s\n", indent, cmp.Or(names[l], "a span that was not exported"), l.Trace)
			}
			under(s.ID, indent+"  ")
		}
	}
	under("", "")
}
