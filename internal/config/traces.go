package config

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// otelPrefix begins the variables of OpenTelemetry, which have the names and the
// meanings that its specification gives them:
// https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/.
const otelPrefix = "OTEL_"

// OTelText is a value of OpenTelemetry's variables, which says nothing where it is
// empty. It is looked at only where spans are exported: other programs read the
// same variables.
type OTelText string

// Set takes any text.
func (t *OTelText) Set(text string) error {
	*t = OTelText(text)
	return nil
}

// OTelSecret is such a value that is not shown.
type OTelSecret struct{ masked }

// Set takes any text.
func (t *OTelSecret) Set(text string) error {
	t.masked = mask(text, redacted)
	return nil
}

// OTelURL is where a collector is. Its user, password and query are masked.
type OTelURL struct{ masked }

// Set takes any text.
func (t *OTelURL) Set(text string) error {
	shown := redacted
	if u, err := url.Parse(text); err == nil {
		if u.RawQuery != "" {
			u.RawQuery = "redacted"
		}
		shown = withoutUser(u)
	}
	t.masked = mask(text, shown)
	return nil
}

// Traces is which spans are made and where they go. All programs read it.
type Traces struct {
	TracesExporter    OTelText   `envconfig:"OTEL_TRACES_EXPORTER" derived:"otlp where an endpoint is set, else none" allowed:"otlp or none" desc:"otlp: spans are exported; none: they are not"`
	OTLPEndpoint      OTelURL    `envconfig:"OTEL_EXPORTER_OTLP_ENDPOINT" derived:"http://localhost:4318, of grpc http://localhost:4317" allowed:"a URL that begins with http:// or https://" desc:"the collector that spans go to; of http/protobuf /v1/traces is added to its path"`
	OTLPTraces        OTelURL    `envconfig:"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT" derived:"OTEL_EXPORTER_OTLP_ENDPOINT" allowed:"a URL that begins with http:// or https://" desc:"the same for spans alone, with the whole path"`
	OTLPProtocol      OTelText   `envconfig:"OTEL_EXPORTER_OTLP_PROTOCOL" signal:"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL" derived:"http/protobuf" allowed:"http/protobuf or grpc" desc:"how the collector is spoken to, http/protobuf or grpc"`
	OTLPHeaders       OTelSecret `envconfig:"OTEL_EXPORTER_OTLP_HEADERS" signal:"OTEL_EXPORTER_OTLP_TRACES_HEADERS" allowed:"name=value,… with values percent-encoded" desc:"headers of each export, as name=value,…"`
	OTLPTimeout       OTelText   `envconfig:"OTEL_EXPORTER_OTLP_TIMEOUT" signal:"OTEL_EXPORTER_OTLP_TRACES_TIMEOUT" derived:"10000" unit:"ms" allowed:"a whole number of milliseconds from 1 to 600000" desc:"longest time of an export, with all of its tries"`
	OTLPCompression   OTelText   `envconfig:"OTEL_EXPORTER_OTLP_COMPRESSION" signal:"OTEL_EXPORTER_OTLP_TRACES_COMPRESSION" derived:"none" allowed:"gzip or none" desc:"gzip: exports are compressed"`
	OTLPCA            OTelText   `envconfig:"OTEL_EXPORTER_OTLP_CERTIFICATE" signal:"OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE" allowed:"a file of PEM certificates" desc:"file with the certificate authorities of an https collector, PEM; unset: the system's"`
	OTLPCert          OTelText   `envconfig:"OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE" signal:"OTEL_EXPORTER_OTLP_TRACES_CLIENT_CERTIFICATE" allowed:"a file that can be read" desc:"file with the client certificate for a collector that asks for one, PEM"`
	OTLPKey           OTelText   `envconfig:"OTEL_EXPORTER_OTLP_CLIENT_KEY" signal:"OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY" allowed:"a file that can be read" desc:"file with the key of that certificate, PEM"`
	Sampler           OTelText   `envconfig:"OTEL_TRACES_SAMPLER" derived:"parentbased_always_on" allowed:"always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio" desc:"which traces are exported; the same for all processes. Each request of a batch is a trace of its own"`
	SamplerArg        OTelText   `envconfig:"OTEL_TRACES_SAMPLER_ARG" derived:"1" allowed:"a number from 0 to 1" desc:"the share of traces that traceidratio takes, such as 0.01"`
	ServiceName       OTelText   `envconfig:"OTEL_SERVICE_NAME" derived:"fusillade-api, fusillade-dispatcher, fusillade-consumer, or fusillade" allowed:"a name" desc:"what the process is called in traces"`
	TraceAttributes   OTelText   `envconfig:"OTEL_RESOURCE_ATTRIBUTES" allowed:"name=value,… with values percent-encoded" desc:"further attributes of the process in traces, as name=value,…"`
	SpanQueue         OTelText   `envconfig:"OTEL_BSP_MAX_QUEUE_SIZE" derived:"2048" unit:"spans" allowed:"a whole number from 1 to 1000000" desc:"most spans that wait to be exported; further ones are dropped"`
	SpanBatch         OTelText   `envconfig:"OTEL_BSP_MAX_EXPORT_BATCH_SIZE" derived:"512" unit:"spans" allowed:"a whole number from 1 to 1000000" desc:"most spans of one export"`
	SpanDelay         OTelText   `envconfig:"OTEL_BSP_SCHEDULE_DELAY" derived:"5000" unit:"ms" allowed:"a whole number of milliseconds from 1 to 600000" desc:"longest time that a span waits for others to be exported with"`
	TelemetryDisabled OTelText   `envconfig:"OTEL_SDK_DISABLED" derived:"false" allowed:"true or false" desc:"true: no spans, whatever else is set"`
}

// TracesOn reports whether spans are exported.
func (t *Traces) TracesOn() bool {
	switch {
	case strings.EqualFold(string(t.TelemetryDisabled), "true"), t.TracesExporter == "none":
		return false
	}
	return t.TracesExporter != "" || t.OTLPEndpoint.IsSet() || t.OTLPTraces.IsSet()
}

// TraceExport is what the variables amount to.
type TraceExport struct {
	Endpoint             *url.URL // of http/protobuf with its path
	GRPC                 bool
	Headers              map[string]string
	Timeout              time.Duration
	Gzip                 bool
	TLS                  *tls.Config // nil: the system's authorities
	Sampler              string
	Ratio                float64
	ServiceName          string // empty: the program's own
	Attributes           map[string]string
	QueueSize, BatchSize int
	Delay                time.Duration
}

// Export reads the variables, which Load has found good. Its error names each
// variable that is not.
func (t *Traces) Export() (TraceExport, error) {
	var e TraceExport
	var errs []error
	t.read(&e, func(name, text string) { errs = append(errs, fmt.Errorf("%s %s", name, text)) })
	return e, errors.Join(errs...)
}

func (t *Traces) check(p *problems) {
	if !t.TracesOn() {
		return
	}
	t.read(new(TraceExport), func(name, text string) { p.add(name, text+p.allowed(name)) })
}

// Defaults of the specification.
const (
	defaultExportTimeout = 10000
	defaultSpanQueue     = 2048
	defaultSpanBatch     = 512
	defaultSpanDelay     = 5000
	defaultSampler       = "parentbased_always_on"
	maxOTelMilliseconds  = 600_000
	maxSpans             = 1_000_000
)

var samplers = []string{
	"always_on", "always_off", "traceidratio", defaultSampler, "parentbased_always_off", "parentbased_traceidratio",
}

func (t *Traces) read(e *TraceExport, bad func(name, text string)) {
	one := func(name string, value OTelText, fallback string, allowed ...string) string {
		text := cmp.Or(string(value), fallback)
		if !slices.Contains(allowed, text) {
			bad(name, "is "+quote(text)+", which is not supported")
		}
		return text
	}
	number := func(name string, value OTelText, fallback, most int) int {
		if value == "" {
			return fallback
		}
		n, err := parseInteger(string(value))
		if err != nil {
			bad(name, err.Error())
		} else if n < 1 || n > int64(most) {
			bad(name, fmt.Sprintf("is %d, which is out of range", n))
		}
		return int(n)
	}
	if t.TelemetryDisabled != "" && !strings.EqualFold(string(t.TelemetryDisabled), "false") {
		bad("OTEL_SDK_DISABLED", "is "+quote(string(t.TelemetryDisabled))+", which is neither true nor false")
	}
	one("OTEL_TRACES_EXPORTER", t.TracesExporter, "otlp", "otlp")
	e.GRPC = one("OTEL_EXPORTER_OTLP_PROTOCOL", t.OTLPProtocol, "http/protobuf", "http/protobuf", "grpc") == "grpc"
	e.Endpoint = t.endpoint(e.GRPC, bad)
	e.Gzip = one("OTEL_EXPORTER_OTLP_COMPRESSION", t.OTLPCompression, "none", "none", "gzip") == "gzip"
	e.Timeout = time.Duration(number("OTEL_EXPORTER_OTLP_TIMEOUT", t.OTLPTimeout, defaultExportTimeout, maxOTelMilliseconds)) * time.Millisecond
	e.QueueSize = number("OTEL_BSP_MAX_QUEUE_SIZE", t.SpanQueue, defaultSpanQueue, maxSpans)
	e.BatchSize = min(number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", t.SpanBatch, defaultSpanBatch, maxSpans), e.QueueSize)
	e.Delay = time.Duration(number("OTEL_BSP_SCHEDULE_DELAY", t.SpanDelay, defaultSpanDelay, maxOTelMilliseconds)) * time.Millisecond
	e.Sampler = one("OTEL_TRACES_SAMPLER", t.Sampler, defaultSampler, samplers...)
	e.Ratio = 1
	if t.SamplerArg != "" && strings.HasSuffix(e.Sampler, "traceidratio") {
		var err error
		if e.Ratio, err = strconv.ParseFloat(string(t.SamplerArg), 64); err != nil || !(e.Ratio >= 0 && e.Ratio <= 1) || math.IsNaN(e.Ratio) {
			bad("OTEL_TRACES_SAMPLER_ARG", "is "+quote(string(t.SamplerArg))+", which is not a number from 0 to 1")
		}
	}
	var err error
	if e.Headers, err = keyValues(t.OTLPHeaders.Reveal()); err != nil {
		bad("OTEL_EXPORTER_OTLP_HEADERS", err.Error())
	}
	for name, value := range e.Headers {
		if !headerName(name) || strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' }) {
			bad("OTEL_EXPORTER_OTLP_HEADERS", "has a name or a value that no header can have")
			break
		}
	}
	e.ServiceName = string(t.ServiceName)
	if e.Attributes, err = keyValues(string(t.TraceAttributes)); err != nil {
		bad("OTEL_RESOURCE_ATTRIBUTES", err.Error())
	}
	e.TLS = t.tls(bad)
}

// endpoint is where spans go.
func (t *Traces) endpoint(grpc bool, bad func(name, text string)) *url.URL {
	name, text := "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", t.OTLPTraces.Reveal()
	if text == "" {
		name, text = "OTEL_EXPORTER_OTLP_ENDPOINT", t.OTLPEndpoint.Reveal()
		switch {
		case text == "" && grpc:
			text = "http://localhost:4317"
		case text == "":
			text = "http://localhost:4318"
		}
		if !grpc {
			path, query, asked := strings.Cut(text, "?")
			text = strings.TrimRight(path, "/") + "/v1/traces"
			if asked {
				text += "?" + query
			}
		}
	}
	u, err := parseURL(text, "http", "https")
	if err != nil {
		bad(name, err.Error())
		return new(url.URL)
	}
	if u.User != nil {
		bad(name, "has a user or password, which belong into OTEL_EXPORTER_OTLP_HEADERS")
	}
	return u
}

// tls returns nil where no variable asks for anything.
func (t *Traces) tls(bad func(name, text string)) *tls.Config {
	if t.OTLPCA == "" && t.OTLPCert == "" && t.OTLPKey == "" {
		return nil
	}
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.OTLPCA != "" {
		text, err := readBounded(string(t.OTLPCA), maxCABytes)
		cfg.RootCAs = x509.NewCertPool()
		if err != nil {
			bad("OTEL_EXPORTER_OTLP_CERTIFICATE", "names a file that cannot be read: "+err.Error())
		} else if !cfg.RootCAs.AppendCertsFromPEM([]byte(text)) {
			bad("OTEL_EXPORTER_OTLP_CERTIFICATE", "names a file without a PEM certificate")
		}
	}
	switch {
	case t.OTLPCert != "" && t.OTLPKey == "":
		bad("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "needs OTEL_EXPORTER_OTLP_CLIENT_KEY, the key of the certificate")
	case t.OTLPKey != "" && t.OTLPCert == "":
		bad("OTEL_EXPORTER_OTLP_CLIENT_KEY", "needs OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE, the certificate of the key")
	case t.OTLPCert != "":
		pair, err := tls.LoadX509KeyPair(string(t.OTLPCert), string(t.OTLPKey))
		if err != nil {
			bad("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "and OTEL_EXPORTER_OTLP_CLIENT_KEY are no certificate and its key: "+err.Error())
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg
}

// keyValues reads name=value,… with values percent-encoded, as the specification
// has it of headers and attributes. Its errors repeat no part of the text.
func keyValues(text string) (map[string]string, error) {
	values := make(map[string]string)
	for i, element := range strings.Split(text, ",") {
		if strings.TrimSpace(element) == "" {
			continue
		}
		name, value, found := strings.Cut(element, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || name == "" || err != nil {
			return nil, fmt.Errorf("has a bad element, number %d", i+1)
		}
		values[name] = value
	}
	return values, nil
}

func headerName(name string) bool {
	return !strings.ContainsFunc(name, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`()<>@,;:\"/[]?={}`, r)
	})
}
