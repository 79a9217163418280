package upstream

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"

	"fusillade/internal/batch"
)

// Defaults of Config.
const (
	DefaultMaxResponseBytes    = 64 << 20
	DefaultMaxIdleConnsPerHost = 1024
	DefaultConnectTimeout      = 10 * time.Second
	// DefaultIdleConnTimeout is below the 5 s after which uvicorn (vLLM, SGLang)
	// and Node close an idle connection: a request that is sent into such a
	// close fails, and nobody can tell whether it was seen.
	DefaultIdleConnTimeout = 4 * time.Second
	DefaultUserAgent       = "fusillade"
	DefaultStallTimeout    = 2 * time.Minute
	DefaultStreamTimeout   = time.Hour
)

// Config configures a Client. Only Timeout is required.
type Config struct {
	// Timeout limits one call, from connecting to the last byte of the answer, unless
	// it asks for a streamed one and gets it.
	Timeout time.Duration
	// FirstTokenTimeout is how long the first part of a streamed answer may take,
	// from connecting. Zero: Timeout.
	FirstTokenTimeout time.Duration
	// StallTimeout is how long each further part may take after the one before. What
	// proxies send to keep the connection alive is none. Zero: DefaultStallTimeout.
	StallTimeout time.Duration
	// StreamTimeout limits a call with a streamed answer. Zero: DefaultStreamTimeout,
	// or Timeout if that is longer.
	StreamTimeout time.Duration
	// ShouldRetry reports whether an answer is worth another attempt, whatever
	// its status; X-Should-Retry of an error goes before it. It is called from many
	// goroutines. Nil: batch.DefaultRetryStatuses.
	ShouldRetry func(Response) bool
	// MaxResponseBytes is the longest body that is kept; see Outcome for what
	// happens to a longer one. Zero: DefaultMaxResponseBytes.
	MaxResponseBytes int64
	// MaxIdleConnsPerHost is how many idle connections one endpoint may keep.
	// Below the number of calls in flight to it, connections are opened and
	// closed all the time. Zero: DefaultMaxIdleConnsPerHost.
	MaxIdleConnsPerHost int
	// ConnectTimeout limits connecting, and the TLS handshake again. Zero:
	// DefaultConnectTimeout. Timeout applies if it is shorter.
	ConnectTimeout time.Duration
	// IdleConnTimeout is how long an unused connection is kept. Zero:
	// DefaultIdleConnTimeout.
	IdleConnTimeout time.Duration
	// Proxy returns the proxy (http, https or socks5) of a call to a URL, or nil
	// for a direct connection. A nil Proxy: all are direct.
	Proxy func(*url.URL) (*url.URL, error)
	// TLS configures https. Nil: the system's roots.
	TLS *tls.Config
	// Transport makes the calls. Timeout bounds them; of the other times, Proxy, TLS and
	// connections this package knows nothing then. It must be safe for concurrent use.
	// Nil: one of this package.
	Transport http.RoundTripper
	// NoHTTP2 keeps to HTTP/1.1 where an https endpoint speaks HTTP/2.
	NoHTTP2 bool
	// UserAgent is sent with every call. Empty: DefaultUserAgent.
	UserAgent string
	// Log is told which of several URLs of an endpoint take calls no more, and
	// again; nil: nobody is.
	Log *slog.Logger
}

func (c Config) validate() error {
	var errs []error
	if c.Timeout <= 0 {
		errs = append(errs, fmt.Errorf("Timeout is %v: must be positive", c.Timeout))
	}
	if c.MaxResponseBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxResponseBytes is %d: must not be negative", c.MaxResponseBytes))
	}
	if c.MaxIdleConnsPerHost < 0 {
		errs = append(errs, fmt.Errorf("MaxIdleConnsPerHost is %d: must not be negative", c.MaxIdleConnsPerHost))
	}
	if c.ConnectTimeout < 0 {
		errs = append(errs, fmt.Errorf("ConnectTimeout is %v: must not be negative", c.ConnectTimeout))
	}
	if c.FirstTokenTimeout < 0 || c.StallTimeout < 0 || c.StreamTimeout < 0 {
		errs = append(errs, errors.New("FirstTokenTimeout, StallTimeout and StreamTimeout must not be negative"))
	}
	if c.IdleConnTimeout < 0 {
		errs = append(errs, fmt.Errorf("IdleConnTimeout is %v: must not be negative", c.IdleConnTimeout))
	}
	if ValidHeaderValue(c.UserAgent) != nil {
		errs = append(errs, errors.New("UserAgent holds a character that no header may carry"))
	}
	return errors.Join(errs...)
}

var defaultRetry = func() (set batch.StatusSet) {
	if err := set.Set(batch.DefaultRetryStatuses); err != nil {
		panic(err)
	}
	return set
}()

func (c Config) withDefaults() Config {
	c.MaxResponseBytes = cmp.Or(c.MaxResponseBytes, DefaultMaxResponseBytes)
	c.MaxIdleConnsPerHost = cmp.Or(c.MaxIdleConnsPerHost, DefaultMaxIdleConnsPerHost)
	c.ConnectTimeout = min(cmp.Or(c.ConnectTimeout, DefaultConnectTimeout), c.Timeout)
	c.FirstTokenTimeout = cmp.Or(c.FirstTokenTimeout, c.Timeout)
	c.StallTimeout = cmp.Or(c.StallTimeout, DefaultStallTimeout)
	c.StreamTimeout = cmp.Or(c.StreamTimeout, max(DefaultStreamTimeout, c.Timeout))
	c.IdleConnTimeout = cmp.Or(c.IdleConnTimeout, DefaultIdleConnTimeout)
	c.UserAgent = cmp.Or(c.UserAgent, DefaultUserAgent)
	if c.ShouldRetry == nil {
		c.ShouldRetry = func(r Response) bool { return defaultRetry.Contains(r.StatusCode) }
	}
	return c
}
