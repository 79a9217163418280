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
	// only wait. An answer that is larger is read past its buffer. Of a request that
	// is larger the first part is kept until the rest comes (see gather); with TLS it
	// is a record of its own, which takes one write more, and 20 µs.
	readBufferBytes  = 1 << 10
	writeBufferBytes = 1 << 10
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
func (c *Client) Do(ctx context.Context, request Request) (outcome Outcome) {
	c.Make(ctx, &request, &outcome)
	return outcome
}

// Make is Do for many calls at once, whose outcome goes to out, the zero value so far.
// The request is its own from then on, and may be changed.
//
// While tens of thousands of calls wait, the stack of each is what is called from
// here to net/http. So requests and outcomes are where the caller has them, and what
// is done with an answer is in functions that are called when there is one.
func (c *Client) Make(ctx context.Context, request *Request, out *Outcome) {
	started := time.Now()
	if request.Options != nil && len(request.Options.More) > 0 {
		c.balanced(ctx, request, out)
	} else {
		c.call(ctx, request, out)
	}
	out.Elapsed = time.Since(started)
}

func (c *Client) call(ctx context.Context, request *Request, out *Outcome) {
	body, err := request.edited()
	if err != nil {
		out.Reason, out.Detail = batch.BuilderError, detail(err.Error())
		return
	}
	if body != nil {
		c.streamed(ctx, request, body, out)
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, errTimeout)
	defer cancel()
	c.exchange(ctx, request, nil, nil, out)
}

// edited makes the changes to the body; it returns those that are to be made if the
// call asks for a stream, else nil.
func (r *Request) edited() (*editedBody, error) {
	changes, err := r.changes()
	if err != nil {
		return nil, err
	}
	body, err := editBody(r.Path, r.Body, changes)
	if err != nil {
		return nil, err
	}
	if body.ask.kind != 0 {
		streamed := body
		return &streamed, nil
	}
	r.Body = body.splice(false)
	return nil, nil
}

// exchange sends the request, follows redirects and reads the answer. What the call
// asks of a stream, and its clock, are nil if it asks for none.
func (c *Client) exchange(ctx context.Context, request *Request, ask *streamAsk, clock *streamClock, out *Outcome) {
	req, x, err := request.build(ctx, c.cfg.UserAgent)
	if err != nil {
		out.Reason, out.Detail = batch.BuilderError, detail(err.Error())
		return
	}
	for redirects := 0; ; redirects++ {
		resp, err := c.transport.RoundTrip(req)
		for again := x.unbegun(req, resp, err); again != nil; again = x.unbegun(again, resp, err) {
			resp, err = c.transport.RoundTrip(again)
		}
		if err != nil {
			c.broken(ctx, "waiting for the response", err, out)
			return
		}
		to, where := redirect(resp, req.URL)
		if to == nil || redirects == maxRedirects {
			c.receive(ctx, request, resp, where, ask, clock, out)
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxRest))
		_ = resp.Body.Close()
		req, x = sentOn(ctx, req, to, request.Body)
	}
}

// receive reads a response to its end. redirected says where it sends the
// request, which does not go there; empty: nowhere.
func (c *Client) receive(ctx context.Context, request *Request, resp *http.Response, redirected string, ask *streamAsk, clock *streamClock, out *Outcome) {
	defer resp.Body.Close()
	var body []byte
	var err error
	if clock != nil && mayAnswer(resp.StatusCode) {
		body, err = readStream(*ask, resp, c.cfg.MaxResponseBytes, clock)
	} else {
		clock.plain()
		body, err = readBody(request.Method, resp, c.cfg.MaxResponseBytes)
	}
	if err != nil && !isBodyProblem(err) {
		c.broken(ctx, fmt.Sprintf("reading the body of status %d", resp.StatusCode), err, out)
		return
	}
	*out = c.classify(request, resp, received{body, err, redirected})
}
