package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"fusillade/internal/batch"
)

const (
	maxIdleConns           = 8192
	maxResponseHeaderBytes = 256 << 10
	pingInterval           = 15 * time.Second

	// Of each connection, which means of each call in flight: tens of thousands may
	// only wait. An answer that is larger is read past its buffer; a request that is
	// larger takes one write more, and 20 µs.
	readBufferBytes  = 4 << 10
	writeBufferBytes = 8 << 10
)

var (
	errTimeout       = errors.New("call timed out")
	errStreamTimeout = errors.New("streamed call timed out")
)

// Client makes calls. It is safe for concurrent use.
type Client struct {
	cfg       Config
	transport http.RoundTripper
	dialer    *dialer
	refusals  usageRefusals
	balancer  *balancer
}

// New returns a client. The error names every field that is wrong.
func New(cfg Config) (*Client, error) {
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("configuring upstream: %w", err)
	}
	cfg = cfg.withDefaults()
	dialer := newDialer(cfg.ConnectTimeout)
	transport := cfg.Transport
	if transport == nil {
		transport = newTransport(cfg, dialer)
	}
	return &Client{cfg: cfg, transport: transport, dialer: dialer, balancer: newBalancer(cfg.Log, cfg.ConnectTimeout+probeGrace)}, nil
}

func newTransport(cfg Config, dialer *dialer) *http.Transport {
	transport := &http.Transport{
		DialContext:            dialer.dial,
		TLSClientConfig:        cfg.TLS.Clone(),
		TLSHandshakeTimeout:    cfg.ConnectTimeout,
		MaxIdleConns:           max(maxIdleConns, cfg.MaxIdleConnsPerHost),
		MaxIdleConnsPerHost:    cfg.MaxIdleConnsPerHost,
		IdleConnTimeout:        cfg.IdleConnTimeout,
		MaxResponseHeaderBytes: maxResponseHeaderBytes,
		ReadBufferSize:         readBufferBytes,
		WriteBufferSize:        writeBufferBytes,
		ForceAttemptHTTP2:      !cfg.NoHTTP2,
		Protocols:              protocols(!cfg.NoHTTP2),
		// Notices a peer that is gone while a call waits for minutes.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingInterval, PingTimeout: pingInterval},
		// Answers are short; a known Content-Length is worth more than gzip.
		DisableCompression: true,
	}
	if cfg.Proxy != nil {
		transport.Proxy = func(r *http.Request) (*url.URL, error) { return cfg.Proxy(r.URL) }
	}
	return transport
}

func protocols(http2 bool) *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetHTTP2(http2)
	return p
}

// Close closes the idle connections, unless they are those of Config.Transport. Call
// it once the last Do has returned.
func (c *Client) Close() {
	if own, ok := c.transport.(*http.Transport); ok && c.cfg.Transport == nil {
		own.CloseIdleConnections()
	}
}

// Do makes one call and classifies its outcome. It returns when the
// answer has been read, the timeout has passed or ctx is done, whichever is
// first. It never panics on bad input; that is an Outcome too.
func (c *Client) Do(ctx context.Context, request Request) Outcome {
	started := time.Now()
	var outcome Outcome
	if request.Options != nil && len(request.Options.More) > 0 {
		outcome = c.balanced(ctx, request)
	} else {
		outcome = c.call(ctx, &request)
	}
	outcome.Elapsed = time.Since(started)
	return outcome
}

func (c *Client) call(ctx context.Context, request *Request) Outcome {
	changes, err := request.changes()
	var body editedBody
	if err == nil {
		body, err = editBody(request.Path, request.Body, changes)
	}
	if err != nil {
		return Outcome{Reason: batch.BuilderError, Detail: detail(err.Error())}
	}
	if body.ask.kind != 0 {
		return c.streamed(ctx, request, &body)
	}
	request.Body = body.splice(false)
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	return c.exchange(ctx, request, streamAsk{}, nil)
}

// exchange sends the request, follows redirects and reads the answer. The clock is
// that of a call which asks for a stream; else nil.
func (c *Client) exchange(ctx context.Context, request *Request, ask streamAsk, clock *streamClock) Outcome {
	req, x, err := request.build(ctx, c.cfg.UserAgent)
	if err != nil {
		return Outcome{Reason: batch.BuilderError, Detail: detail(err.Error())}
	}
	for redirects := 0; ; redirects++ {
		resp, err := c.transport.RoundTrip(req)
		for again := x.unbegun(req, resp, err); again != nil; again = x.unbegun(again, resp, err) {
			resp, err = c.transport.RoundTrip(again)
		}
		if err != nil {
			return c.broken(ctx, "waiting for the response", err)
		}
		to, where := redirect(resp, req.URL)
		if to == nil || redirects == maxRedirects {
			return c.receive(ctx, request, resp, where, ask, clock)
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRest))
		_ = resp.Body.Close()
		req, x = sentOn(ctx, req, to, request.Body)
	}
}

// receive reads a response to its end. redirected says where it sends the
// request, which does not go there; empty: nowhere.
func (c *Client) receive(ctx context.Context, request *Request, resp *http.Response, redirected string, ask streamAsk, clock *streamClock) Outcome {
	defer resp.Body.Close()
	var body []byte
	var err error
	if clock != nil && mayAnswer(resp.StatusCode) {
		body, err = readStream(ask, resp, c.cfg.MaxResponseBytes, clock)
	} else {
		clock.plain()
		body, err = readBody(request.Method, resp, c.cfg.MaxResponseBytes)
	}
	if err != nil && !isBodyProblem(err) {
		return c.broken(ctx, fmt.Sprintf("reading the body of status %d", resp.StatusCode), err)
	}
	return c.classify(request, resp, received{body, err, redirected})
}
