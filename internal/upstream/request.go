package upstream

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// Headers that say which request a call belongs to.
const (
	HeaderRequestID = "X-Fusillade-Request-Id"
	HeaderCustomID  = "X-Fusillade-Custom-Id"
	HeaderAttempt   = "X-Fusillade-Attempt"
)

// headerIdempotencyKey lets net/http send a POST again, which exchange limits.
const headerIdempotencyKey = "Idempotency-Key"

// Request is one attempt's call.
type Request struct {
	ID       batch.RequestID
	CustomID string
	Attempt  int // 0-based
	// Generation tells lives of a request that was retried by hand apart, whose
	// attempts begin again at 0; 0: its first.
	Generation int
	// Method is an HTTP method; it has no default.
	Method string
	// BaseURL is the endpoint: http or https, a host, and optionally a path, a
	// query (kept, before that of Path) and user:password (sent as Basic
	// authorization if there is no APIKey).
	BaseURL string
	// Path is appended to BaseURL; without its /v1 where BaseURL has a path.
	Path string
	// Model is what BaseURL calls the model, for a template of the path, and to tell
	// models of one endpoint apart.
	Model string
	// Rename puts Model in place of each "model" of the body's top level, which
	// names another one.
	Rename bool
	// APIKey is sent as Options say, else as a bearer token. Empty: no such header.
	APIKey string
	// OwnKey says that the key is the batch's own: that it is refused says nothing
	// of the endpoint.
	OwnKey bool
	// Options is how BaseURL wants to be spoken to; nil: as OpenAI's. Its headers
	// go over those of Header.
	Options *endpoint.Options
	// Header is sent as well, except for names that the call sets itself and
	// those that belong to the connection. Values are sanitized.
	Header http.Header
	// Deadline is sent as the priority where Options say so; zero: there is none.
	Deadline time.Time
	// Streams is set as parts of a streamed answer come; nil: nobody asks.
	Streams *atomic.Bool
	// Body is sent as JSON if it is not empty, with what Rename and Options change
	// in it. It must not be changed, even after Do has returned: a cancelled call
	// may still be reading it.
	Body []byte
	// withoutUsage: the body leaves out what the endpoint refused, so it is
	// another one than that which may have been sent with the attempt's key.
	withoutUsage bool
}

// ignoredHeaders belong to the connection.
var ignoredHeaders = map[string]bool{
	"Connection": true, "Content-Length": true, "Expect": true, "Host": true,
	"Keep-Alive": true, "Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true,
	"Transfer-Encoding": true, "Upgrade": true,
}

// IdempotencyKey returns the key of the request's attempt: the same for every
// delivery of that attempt, and another after a rerun.
func (r *Request) IdempotencyKey() string {
	return r.idempotencyKey(r.ID.String(), strconv.Itoa(r.Attempt))
}

func (r *Request) idempotencyKey(id, attempt string) string {
	if r.withoutUsage {
		attempt += "-u"
	}
	if r.Generation > 0 {
		return id + "-r" + strconv.Itoa(r.Generation) + "-" + attempt
	}
	return id + "-" + attempt
}

// build returns an error that is safe to store: it holds nothing of the key,
// the body or the URL.
func (r *Request) build(ctx context.Context, userAgent string) (*http.Request, *exchange, error) {
	switch {
	case r.Method == "":
		return nil, nil, errors.New("method is empty")
	case ValidHeaderName(r.Method) != nil || r.Method == http.MethodConnect:
		return nil, nil, errors.New("method is not an HTTP method that can be sent")
	}
	target, err := r.target()
	if err != nil {
		return nil, nil, err
	}
	ctx, x := follow(ctx, r.Body)
	req, err := http.NewRequestWithContext(ctx, r.Method, target, nil)
	if err != nil {
		return nil, nil, errors.New("base URL and path do not make a URL")
	}
	if err := checkURL(req.URL); err != nil {
		return nil, nil, err
	}
	req.Header, err = r.header(req.URL.User, userAgent)
	if err != nil {
		return nil, nil, err
	}
	req.URL.User = nil
	x.setBody(req)
	return req, x, nil
}

// target is the URL of the call.
func (r *Request) target() (string, error) {
	if r.Options == nil || r.Options.Path == "" {
		return joinURL(r.BaseURL, r.Path)
	}
	path, err := r.Options.Path.Expand(r.Path, r.Model)
	if err != nil {
		return "", err
	}
	return appendPath(r.BaseURL, path, false)
}

func (r *Request) header(user *url.Userinfo, userAgent string) (http.Header, error) {
	extra := 0
	if r.Options != nil {
		extra = len(r.Options.Headers)
	}
	h := make(http.Header, len(r.Header)+8+extra)
	for name, values := range r.Header {
		if ValidHeaderName(name) != nil {
			return nil, fmt.Errorf("header name %q is not legal", SanitizeHeaderValue(name))
		}
		name = http.CanonicalHeaderKey(name)
		if ignoredHeaders[name] {
			continue
		}
		for _, value := range values {
			h[name] = append(h[name], SanitizeHeaderValue(value))
		}
	}
	id, attempt := r.ID.String(), strconv.Itoa(r.Attempt)
	own := make([]string, 0, 7+extra)
	set := func(name, value string) {
		own = append(own, value)
		n := len(own)
		h[name] = own[n-1 : n : n]
	}
	set("User-Agent", userAgent)
	set(HeaderRequestID, id)
	set(HeaderCustomID, SanitizeHeaderValue(r.CustomID))
	set(HeaderAttempt, attempt)
	set(headerIdempotencyKey, r.idempotencyKey(id, attempt))
	if len(r.Body) > 0 {
		set("Content-Type", "application/json")
	}
	var auth endpoint.Auth
	if r.Options != nil {
		auth = r.Options.Auth
		for _, extra := range r.Options.Headers {
			set(extra.Name, extra.Value)
		}
	}
	switch key := strings.TrimSpace(r.APIKey); {
	case key != "" && ValidHeaderValue(key) != nil:
		return nil, errors.New("API key holds a character that no header may carry")
	case key != "":
		if name, value := auth.Header(key); name != "" {
			set(name, value)
		}
	case user != nil && auth != endpoint.None:
		password, _ := user.Password()
		set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	return h, nil
}
