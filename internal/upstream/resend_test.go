package upstream

import (
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"

	"fusillade/internal/batch"
)

// kept are the kinds of connection that are kept between calls, and of which the end
// is told by TLS.
var kept = map[string]func(*httptest.Server){
	"HTTP/1, TLS 1.2": func(s *httptest.Server) {
		s.EnableHTTP2, s.TLS = false, &tls.Config{MaxVersion: tls.VersionTLS12}
	},
	"HTTP/1, TLS 1.3": func(s *httptest.Server) { s.EnableHTTP2 = false },
	"HTTP/2":          func(*httptest.Server) {},
}

// A connection that the endpoint closes when a request is about to be sent on it
// costs no attempt.
func TestKeptConnectionClosedAsItIsTaken(t *testing.T) {
	t.Parallel()
	for name, kind := range kept {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls, taken atomic.Int32
			server, client := newHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
				calls.Add(1)
				_, _ = io.WriteString(w, okBody)
			}, Config{}, kind)
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
				if info.Reused && taken.Add(1) == 1 {
					server.CloseClientConnections()
				}
			}})
			for n := range 2 {
				if got := client.Do(ctx, lineOf(server.URL, n)); got.Reason != "" {
					t.Errorf("call %d: %s: %s", n, got.Reason, got.Detail)
				}
			}
			if taken.Load() != 1 || calls.Load() != 2 {
				t.Errorf("a kept connection was taken %d times and %d requests came, want 1 and 2", taken.Load(), calls.Load())
			}
		})
	}
}

// A request that the endpoint has begun when it closes the connection properly costs
// the attempt, and is not sent again within it.
func TestKeptConnectionClosedOnceTheRequestHasBegun(t *testing.T) {
	t.Parallel()
	for name, kind := range kept {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			var last atomic.Value
			server, client := newHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				if calls.Add(1) > 1 {
					_ = last.Load().(net.Conn).Close()
				}
				_, _ = io.WriteString(w, okBody)
			}, Config{}, kind, func(s *httptest.Server) {
				s.Config.ConnState = func(c net.Conn, state http.ConnState) {
					if state == http.StateNew {
						last.Store(c)
					}
				}
			})
			for n, want := range []batch.Reason{"", batch.NetworkError} {
				if got := client.Do(t.Context(), lineOf(server.URL, n)); got.Reason != want {
					t.Errorf("call %d: %s: %s, want %q", n, got.Reason, got.Detail, want)
				}
			}
			if calls.Load() != 2 {
				t.Errorf("%d requests came, want 2", calls.Load())
			}
		})
	}
}
