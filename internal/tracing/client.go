package tracing

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"fusillade/internal/backoff"
)

const (
	dialTimeout = 5 * time.Second
	idleTimeout = 90 * time.Second
	// Pauses between the tries of an export.
	minPause, maxPause = 250 * time.Millisecond, 2 * time.Second
	// maxAnswerBytes is far above what a collector answers.
	maxAnswerBytes = 64 << 10
	frameBytes     = 5 // before a message of gRPC
	serviceMethod  = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
)

// client sends spans by OTLP, over HTTP or as a unary call of gRPC, which is a POST
// over HTTP/2 with five bytes before its message. It stands in for otlptracehttp and
// otlptracegrpc, which would bring all of gRPC into every program: 7.5 MB.
//
// Protocols: https://opentelemetry.io/docs/specs/otlp/ and
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md.
type client struct {
	cfg       Config
	transport *http.Transport
}

func newClient(cfg Config) *client {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(!cfg.GRPC)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(cfg.GRPC)
	transport := &http.Transport{
		DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout,
		ForceAttemptHTTP2: true, Protocols: protocols, DisableCompression: true,
	}
	if !cfg.GRPC || cfg.Endpoint.Scheme == "https" {
		transport.Proxy = http.ProxyFromEnvironment
	}
	return &client{cfg, transport}
}

// Start implements otlptrace.Client. A connection is made with the first export.
func (c *client) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (c *client) Stop(context.Context) error {
	c.transport.CloseIdleConnections()
	return nil
}

// errPassing is what an error is that a collector asks to be tried again after.
type errPassing struct {
	error
	after time.Duration // 0: it did not say
}

// UploadTraces implements otlptrace.Client.
func (c *client) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	// The message ExportTraceServiceRequest has the same one field, and its package
	// brings gRPC.
	body, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return err
	}
	if c.cfg.Gzip {
		body = compressed(body)
	}
	for pause := backoff.New(minPause, maxPause); ; {
		err := c.send(ctx, body)
		var passing errPassing
		if !errors.As(err, &passing) {
			return err
		}
		timer := time.NewTimer(cmp.Or(passing.after, pause.Next()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return err
		case <-timer.C:
		}
	}
}

func (c *client) send(ctx context.Context, body []byte) error {
	target := *c.cfg.Endpoint
	kind := "application/x-protobuf"
	if c.cfg.GRPC {
		target.Path, kind = serviceMethod, "application/grpc"
		body = framed(body, c.cfg.Gzip)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), bytes.NewReader(body))
	if err != nil {
		return errors.New("the endpoint is not a URL")
	}
	for name, value := range c.cfg.Headers {
		req.Header.Set(name, value)
	}
	req.Header.Set("Content-Type", kind)
	req.Header.Set("User-Agent", "fusillade OTel-OTLP-Exporter-Go")
	switch {
	case c.cfg.GRPC && c.cfg.Gzip:
		req.Header.Set("Grpc-Encoding", "gzip")
		fallthrough
	case c.cfg.GRPC:
		req.Header.Set("Te", "trailers")
	case c.cfg.Gzip:
		req.Header.Set("Content-Encoding", "gzip")
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return errPassing{err, 0}
	}
	defer resp.Body.Close()
	// Trailers come behind the body.
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err != nil {
		return errPassing{fmt.Errorf("reading the answer: %w", err), 0}
	}
	if err := checkStatus(resp); err != nil {
		return err
	}
	if c.cfg.GRPC {
		if err := checkGRPC(resp); err != nil {
			return err
		}
		answer = answer[min(frameBytes, len(answer)):]
	}
	return checkTaken(answer)
}

func checkStatus(resp *http.Response) error {
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return nil
	}
	err := fmt.Errorf("the collector answered with status %d", resp.StatusCode)
	switch resp.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		seconds, convErr := strconv.Atoi(resp.Header.Get("Retry-After"))
		if convErr != nil || seconds < 0 {
			seconds = 0
		}
		return errPassing{err, time.Duration(seconds) * time.Second}
	}
	return err
}

// Status codes of gRPC.
const (
	grpcOK               = "0"
	grpcCanceled         = "1"
	grpcDeadlineExceeded = "4"
	grpcAborted          = "10"
	grpcOutOfRange       = "11"
	grpcUnavailable      = "14"
	grpcDataLoss         = "15"
)

// checkGRPC reads the status of a call, which an answer without a body has among
// its headers.
func checkGRPC(resp *http.Response) error {
	status := cmp.Or(resp.Trailer.Get("Grpc-Status"), resp.Header.Get("Grpc-Status"))
	err := fmt.Errorf("the collector answered with gRPC status %.20q", status)
	switch status {
	case grpcOK:
		return nil
	case grpcCanceled, grpcDeadlineExceeded, grpcAborted, grpcOutOfRange, grpcUnavailable, grpcDataLoss:
		return errPassing{err, 0}
	case "":
		return errors.New("the collector's answer is not of gRPC; OTLP over HTTP has another port, commonly 4318")
	}
	return err
}

// Fields of ExportTraceServiceResponse and of its ExportTracePartialSuccess.
const (
	fieldPartialSuccess protowire.Number = 1
	fieldRejectedSpans  protowire.Number = 1
)

// errRejected is how many spans a collector did not take, of an export that
// succeeded otherwise.
type errRejected uint64

func (e errRejected) Error() string {
	return fmt.Sprintf("the collector rejected %d spans of an export", uint64(e))
}

// checkTaken reads whether a collector took all spans. What it did not is not to be sent
// again.
func checkTaken(answer []byte) error {
	partial, _ := field(answer, fieldPartialSuccess)
	if _, rejected := field(partial, fieldRejectedSpans); rejected > 0 {
		return errRejected(rejected)
	}
	return nil
}

// field returns the last field of a message with a number: bytes or an integer.
func field(message []byte, number protowire.Number) (bytes []byte, n uint64) {
	for len(message) > 0 {
		found, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return bytes, n
		}
		message = message[size:]
		size = protowire.ConsumeFieldValue(found, kind, message)
		if size < 0 {
			return bytes, n
		}
		switch {
		case found != number:
		case kind == protowire.BytesType:
			bytes, _ = protowire.ConsumeBytes(message)
		case kind == protowire.VarintType:
			n, _ = protowire.ConsumeVarint(message)
		}
		message = message[size:]
	}
	return bytes, n
}

func compressed(body []byte) []byte {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	_, _ = w.Write(body) // a buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// framed puts before a message of gRPC whether it is compressed, and its length.
func framed(body []byte, compressed bool) []byte {
	n := len(body)
	frame := append(make([]byte, 0, frameBytes+n), 0, byte(n>>24), byte(n>>16), byte(n>>8), byte(n))
	if compressed {
		frame[0] = 1
	}
	return append(frame, body...)
}
