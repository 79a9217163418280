package client

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"fusillade/internal/backoff"
)

// Config says which server to talk to. Zero fields but URL take their defaults.
type Config struct {
	URL       string // of the server, with or without /v1 at its end; required
	Key       string // API key; empty: none is sent
	UserAgent string
	// IdleTimeout is how long the server may do nothing, be it before an answer or
	// within a transfer; default 2 min.
	IdleTimeout time.Duration
	// Transport makes the HTTP requests. Default: one of the client's own, which alone
	// reads the environment: HTTPS_PROXY, HTTP_PROXY and NO_PROXY.
	Transport http.RoundTripper
	// Pause is how long to wait before a broken transfer is taken up again; each
	// further failure doubles it, up to ten times. Default 1 s.
	Pause time.Duration
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	cfg   Config
	base  *url.URL
	shown string // the URL without a password
	http  *http.Client
	// upstreamKey is what calls of new and rerun batches are made with; empty: the
	// server's own.
	upstreamKey string
	operator    bool // changes batches of any owner
}

// String is the server's URL, without a password.
func (c *Client) String() string { return c.shown }

// New returns a client. It does not talk to the server yet.
func New(cfg Config) (*Client, error) {
	base, err := url.Parse(strings.TrimSuffix(strings.TrimRight(cfg.URL, "/"), "/v1"))
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || base.RawQuery != "" {
		return nil, errors.New("client: URL must be an http or https URL without a query")
	}
	cfg.IdleTimeout, cfg.Pause = cmp.Or(cfg.IdleTimeout, 2*time.Minute), cmp.Or(cfg.Pause, time.Second)
	if cfg.Transport == nil {
		cfg.Transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 16,
			IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
		}
	}
	return &Client{cfg: cfg, base: base, shown: base.Redacted(), http: &http.Client{
		Transport: cfg.Transport,
		// A POST that is redirected would become a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// WithUpstreamKey returns a client that shares this one's connections, and whose
// batches, as they are created or rerun, have this API key for the model
// endpoint; empty: none.
func (c *Client) WithUpstreamKey(upstreamKey string) *Client {
	with := *c
	with.upstreamKey = upstreamKey
	return &with
}

// AsOperator returns a client that shares this one's connections, and whose CancelBatch,
// CancelLines, RerunBatch, RerunLines and DeleteBatch are of a batch of any owner. The
// server refuses them with 403 where Key is no operator's.
func (c *Client) AsOperator() *Client {
	as := *c
	as.operator = true
	return &as
}

// Close closes connections that are idle.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// request is one that is to be sent.
type request struct {
	method, path    string
	query           url.Values
	contentType     string // of body
	body            io.Reader
	length          int64  // of body; -1: not known
	idempotencyKey  string // empty: none
	withUpstreamKey bool   // send upstreamKey
}

// response is an answer that is being read. Close must be called.
type response struct {
	*http.Response
	idle *idleTimeout
}

func (r *response) Read(p []byte) (int, error) {
	n, err := r.Body.Read(p)
	r.idle.reset()
	return n, err
}

func (r *response) Close() {
	_ = r.Body.Close()
	r.idle.end()
}

// send sends a request and returns the answer to one that succeeded. Else the
// error is an *Error, or one of the connection.
func (c *Client) send(ctx context.Context, longest time.Duration, r request) (*response, error) {
	ctx, idle := withIdleTimeout(ctx, longest)
	resp, err := c.roundTrip(ctx, r, idle) //nolint:bodyclose // Close of the response does
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		idle.end()
		return nil, err
	}
	out := &response{resp, idle}
	if resp.StatusCode >= 200 && resp.StatusCode < 300 {
		return out, nil
	}
	defer out.Close()
	return nil, readError(out, c.shown)
}

func (c *Client) roundTrip(ctx context.Context, r request, idle *idleTimeout) (*http.Response, error) {
	target, err := c.base.Parse(strings.TrimSuffix(c.base.EscapedPath(), "/") + r.path)
	if err != nil {
		return nil, err
	}
	target.RawQuery = r.query.Encode()
	var body io.Reader
	if r.body != nil {
		body = io.NopCloser(&activityReader{r.body, idle})
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target.String(), body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = r.length
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if c.cfg.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Key)
	}
	if r.withUpstreamKey && c.upstreamKey != "" {
		req.Header.Set("X-Upstream-Api-Key", c.upstreamKey)
	}
	if r.idempotencyKey != "" {
		req.Header.Set("Idempotency-Key", r.idempotencyKey)
	}
	req.Header.Set("User-Agent", cmp.Or(c.cfg.UserAgent, "fusillade"))
	resp, err := c.http.Do(req)
	var cause *url.Error
	if errors.As(err, &cause) {
		return nil, fmt.Errorf("talking to %s: %w", c.shown, cause.Err)
	}
	return resp, err
}

// maxAnswer is far above the largest page of a list.
const maxAnswer = 64 << 20

// call sends in as JSON, if it is not nil, and returns the JSON of the answer.
func (c *Client) call(ctx context.Context, method, path string, query url.Values, in any) (json.RawMessage, error) {
	return c.callJSON(ctx, request{method: method, path: path, query: query}, in)
}

// run is a call after which requests are run, with the key for the model endpoint.
func (c *Client) run(ctx context.Context, path string, in any) (json.RawMessage, error) {
	return c.callJSON(ctx, request{method: http.MethodPost, path: path, withUpstreamKey: true}, in)
}

func (c *Client) callJSON(ctx context.Context, r request, in any) (json.RawMessage, error) {
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		r.body, r.length, r.contentType = bytes.NewReader(raw), int64(len(raw)), "application/json"
	}
	resp, err := c.send(ctx, c.cfg.IdleTimeout, r)
	if err != nil {
		return nil, err
	}
	defer resp.Close()
	return c.readJSON(resp)
}

func (c *Client) readJSON(resp *response) (json.RawMessage, error) {
	raw, err := io.ReadAll(io.LimitReader(resp, maxAnswer))
	if err == nil && !json.Valid(raw) {
		err = errors.New("the answer is not JSON: is this a fusillade server?")
	}
	if err != nil {
		return nil, fmt.Errorf("talking to %s: %w", c.shown, err)
	}
	return bytes.TrimSpace(raw), nil
}

// pause is what there is between the tries of a transfer that breaks.
func (c *Client) pause() *backoff.Backoff { return backoff.New(c.cfg.Pause, 10*c.cfg.Pause) }
