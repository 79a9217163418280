package api

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"fusillade/internal/jsonl"
)

const headerRequestID = "X-Request-Id"

// ServeHTTP gives each request an id and deadlines, and answers those that no
// handler gets to see.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	s.working.RLock()
	defer s.working.RUnlock()
	began := time.Now()
	r = fromAzure(r)
	w := &response{ResponseWriter: rw}
	w.Header().Set(headerRequestID, newRequestID())
	w.Header().Set("X-Content-Type-Options", "nosniff")
	defer func() {
		s.cfg.Log.Debug("request", "request_id", w.Header().Get(headerRequestID), "method", r.Method, "route", r.Pattern,
			"status", w.status, "duration", time.Since(began))
	}()
	defer s.recoverPanic(w, r)
	control := http.NewResponseController(w)
	if r.Body != http.NoBody {
		_ = control.SetReadDeadline(began.Add(s.cfg.ClientTimeout))
	}
	_ = control.SetWriteDeadline(began.Add(s.cfg.ClientTimeout))
	if err := s.admit(r); err != nil {
		s.fail(w, r, err)
		return
	}
	if handler, pattern := s.mux.Handler(r); pattern == "" {
		s.fail(w, r, s.unknownRoute(handler, w, r))
		return
	}
	s.mux.ServeHTTP(w, r)
}

// recoverPanic turns a panic into a 500, or into a broken connection if a part of
// the response was sent already.
func (s *Server) recoverPanic(w *response, r *http.Request) {
	p := recover()
	if p == nil {
		return
	}
	if p != any(http.ErrAbortHandler) {
		s.cfg.Log.Error("panic", "request_id", w.Header().Get(headerRequestID), "route", r.Pattern,
			"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if w.status == 0 {
			s.fail(w, r, fmt.Errorf("panic: %v", p))
			return
		}
	}
	panic(http.ErrAbortHandler)
}

var crossOrigin = http.NewCrossOriginProtection()

// admit refuses what a web page sends through its visitor's browser. Only where
// no key is asked for would it be let in: by a form, or under a name of its own
// that leads to this server.
func (s *Server) admit(r *http.Request) error {
	if s.cfg.Owner == "" {
		return nil
	}
	if err := crossOrigin.Check(r); err != nil {
		return errOtherOrigin
	}
	if !s.knownHost(r.Host) {
		return forbidden(fmt.Sprintf("The Host header is %s. Without API keys it must be localhost, an IP address, or a name that FUSILLADE_API_HOSTS lists.", quote(r.Host)))
	}
	return nil
}

// knownHost reports whether a Host header is one that no web page can have for
// its own: an address, a name of this machine, or one that is configured.
func (s *Server) knownHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return true
	}
	for _, name := range append([]string{"localhost", "*.localhost"}, s.cfg.Hosts...) {
		name = strings.TrimSuffix(strings.ToLower(name), ".")
		if suffix, below := strings.CutPrefix(name, "*"); host == name || below && strings.HasSuffix(host, suffix) {
			return true
		}
	}
	return false
}

// unknownRoute asks the mux's own handler whether another method would do.
func (s *Server) unknownRoute(handler http.Handler, w http.ResponseWriter, r *http.Request) error {
	var p probe
	handler.ServeHTTP(&p, r)
	if p.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", p.Header().Get("Allow"))
		return &apiError{status: p.status, kind: invalidRequest, code: "method_not_allowed",
			message: fmt.Sprintf("%s is not allowed on %s.", quote(r.Method), quote(r.URL.Path))}
	}
	return &apiError{status: http.StatusNotFound, kind: invalidRequest, code: "unknown_url",
		message: fmt.Sprintf("Unknown request URL: %s %s.%s", quote(r.Method), quote(r.URL.Path), s.insteadOf(r))}
}

// insteadOf says what someone may have meant who asked for a URL that is not there.
func (s *Server) insteadOf(r *http.Request) string {
	if slices.Contains(jsonl.DefaultEndpoints, r.URL.Path) {
		return " Here it is the url of a line in a file of requests; single calls go to the model endpoint itself."
	}
	meant := r.Clone(r.Context())
	meant.URL.Path, meant.URL.RawPath = "/v1"+r.URL.Path, ""
	if _, pattern := s.mux.Handler(meant); pattern == "" {
		return ""
	}
	return fmt.Sprintf(" Did you mean %s? The base URL of clients ends with /v1.", quote(meant.URL.Path))
}

// probe is a response that nobody sees.
type probe struct {
	header http.Header
	status int
}

func (p *probe) Header() http.Header {
	if p.header == nil {
		p.header = make(http.Header)
	}
	return p.header
}
func (p *probe) WriteHeader(status int)         { p.status = status }
func (p *probe) Write(text []byte) (int, error) { return len(text), nil }

// response remembers its status; 0: nothing was sent.
type response struct {
	http.ResponseWriter
	status int
}

func (w *response) WriteHeader(status int) {
	if w.status == 0 && status >= 200 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap is for http.ResponseController.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func newRequestID() string {
	var raw [12]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	return "req_" + hex.EncodeToString(raw[:])
}
