package upstream

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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

// An endpoint that closes a TLS connection as soon as it has answered, and does not
// say so in the answer, costs no attempt, however soon the next call comes.
func TestTLSConnectionClosedAfterEachAnswer(t *testing.T) {
	t.Parallel()
	const callers, calls = 4, 60
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			certified, client := newHTTP2(t, nil, Config{})
			cfg := &tls.Config{Certificates: certified.TLS.Certificates, MaxVersion: version}
			var seen sync.Map // by custom id: how often
			base := newRawServer(t, func(raw *net.TCPConn, _ *bufio.Reader) {
				conn := tls.Server(raw, cfg)
				req, err := readRequest(bufio.NewReader(conn))
				if err != nil {
					return
				}
				count, _ := seen.LoadOrStore(req.Header.Get(HeaderCustomID), new(atomic.Int32))
				count.(*atomic.Int32).Add(1)
				_, _ = io.WriteString(conn, noContent)
				_ = conn.Close()
			})
			base = "https" + base[len("http"):]
			var calling sync.WaitGroup
			for caller := range callers {
				calling.Go(func() {
					for i := range calls {
						request := chatRequest(base)
						request.CustomID = fmt.Sprint(caller, "-", i)
						if got := client.Do(t.Context(), request); got.Response.StatusCode != http.StatusNoContent {
							t.Errorf("call %s: %s: %s", request.CustomID, got.Reason, got.Detail)
						}
						if i%3 == 0 { // calls come at once, and within the time that a close takes to arrive
							<-time.After(time.Duration(i%5) * time.Millisecond)
						}
					}
				})
			}
			calling.Wait()
			seen.Range(func(id, count any) bool {
				if n := count.(*atomic.Int32).Load(); n != 1 {
					t.Errorf("the endpoint read request %s %d times, want once", id, n)
				}
				return true
			})
		})
	}
}
