package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

// newHTTP2 serves HTTP/2 over TLS, and returns a client that trusts it.
func newHTTP2(t *testing.T, handler http.HandlerFunc, cfg Config, change ...func(*httptest.Server)) (*httptest.Server, *Client) {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, c := range change {
		c(server)
	}
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	cfg.TLS = &tls.Config{RootCAs: roots}
	return server, newClient(t, cfg)
}

// line is the n'th request.
func lineOf(base string, n int) Request {
	request := chatRequest(base)
	request.ID.Line = int32(n)
	return request
}

func TestHTTP2CanBeSwitchedOff(t *testing.T) {
	t.Parallel()
	for _, off := range []bool{false, true} {
		var proto atomic.Value
		server, client := newHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
			proto.Store(r.Proto)
			_, _ = io.WriteString(w, answerOf)
		}, Config{NoHTTP2: off})
		got := client.Do(t.Context(), chatRequest(server.URL))
		want := map[bool]string{false: "HTTP/2.0", true: "HTTP/1.1"}[off]
		if got.Reason != "" || proto.Load() != want {
			t.Errorf("%v: %s: %s", proto.Load(), got.Reason, got.Detail)
		}
	}
}

// More calls than a connection takes streams are in flight at once all the same:
// the limit is the model's, not the server's.
func TestHTTP2StreamsOfAConnection(t *testing.T) {
	t.Parallel()
	const calls, streams = 20, 3
	var inFlight sync.WaitGroup
	inFlight.Add(calls)
	server, client := newHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		inFlight.Done()
		inFlight.Wait() // all of them
		_, _ = io.WriteString(w, answerOf)
	}, Config{}, func(s *httptest.Server) { s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams} })
	var all sync.WaitGroup
	for n := range calls {
		all.Go(func() {
			if got := client.Do(t.Context(), lineOf(server.URL, n)); got.Reason != "" {
				t.Errorf("%s: %s", got.Reason, got.Detail)
			}
		})
	}
	all.Wait()
}

// A server that says goodbye after each response, as one that is restarted or
// balances its connections, costs no attempt and is called once for each request.
func TestHTTP2GoAway(t *testing.T) {
	t.Parallel()
	var seen sync.Map
	server, client := newHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if _, twice := seen.LoadOrStore(r.Header.Get(headerIdempotencyKey), true); twice {
			t.Errorf("called twice: %s", r.Header.Get(headerIdempotencyKey))
		}
		w.Header().Set("Connection", "close")
		_, _ = io.WriteString(w, answerOf)
	}, Config{})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for n := range 20 {
				if got := client.Do(t.Context(), lineOf(server.URL, 100*g+n)); got.Reason != "" {
					t.Errorf("%s: %s", got.Reason, got.Detail)
				}
			}
		})
	}
	all.Wait()
}

// A connection that breaks takes the calls on it with it; none of them, which the
// server has begun, is sent again within its attempt.
func TestHTTP2ConnectionBreaks(t *testing.T) {
	t.Parallel()
	const calls = 5
	var begun atomic.Int64
	var mu sync.Mutex
	var conns []net.Conn
	server, client := newHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if strings.HasPrefix(r.Header.Get(HeaderCustomID), "good") {
			_, _ = io.WriteString(w, answerOf)
			return
		}
		begun.Add(1)
		<-r.Context().Done()
	}, Config{}, func(s *httptest.Server) {
		s.Config.ConnState = func(c net.Conn, state http.ConnState) {
			if state == http.StateNew {
				mu.Lock()
				defer mu.Unlock()
				conns = append(conns, c)
			}
		}
	})
	good := func() {
		t.Helper()
		request := lineOf(server.URL, 0)
		request.CustomID = "good"
		if got := client.Do(t.Context(), request); got.Reason != "" {
			t.Errorf("%s: %s", got.Reason, got.Detail)
		}
	}
	good()
	var all sync.WaitGroup
	for n := range calls {
		all.Go(func() {
			if got := client.Do(t.Context(), lineOf(server.URL, n+1)); got.Reason != batch.NetworkError {
				t.Errorf("%s: %s", got.Reason, got.Detail)
			}
		})
	}
	testenv.Until(t, ample, "the calls are there", func() bool { return begun.Load() == calls })
	mu.Lock()
	for _, c := range conns {
		_ = c.(*tls.Conn).NetConn().Close()
	}
	mu.Unlock()
	all.Wait()
	if n := begun.Load(); n != calls {
		t.Errorf("%d calls have begun, want %d", n, calls)
	}
	good()
}

// A connection that was closed while it was idle costs no attempt, but where the
// server may have read the request before it closed.
func TestHTTP2IdleClose(t *testing.T) {
	t.Parallel()
	var calls atomic.Int64
	server, client := newHTTP2(t, func(w http.ResponseWriter, _ *http.Request) {
		calls.Add(1)
		_, _ = io.WriteString(w, answerOf)
	}, Config{IdleConnTimeout: time.Hour})
	const rounds, mayFail = 50, 5
	failed := 0
	for n := range rounds {
		if got := client.Do(t.Context(), lineOf(server.URL, n)); got.Reason != "" {
			failed++
			t.Logf("%d: %s: %s", n, got.Reason, got.Detail)
		}
		server.CloseClientConnections()
	}
	if failed > mayFail || calls.Load() > rounds {
		t.Errorf("%d of %d calls failed; the server saw %d", failed, rounds, calls.Load())
	}
}

// A cancelled call ends its stream and no other one on the connection.
func TestHTTP2Cancel(t *testing.T) {
	t.Parallel()
	started, ended, release := make(chan struct{}), make(chan struct{}), make(chan struct{})
	server, client := newHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get(HeaderCustomID) == "cancelled" {
			_, _ = io.Copy(io.Discard, r.Body)
			close(started)
			<-r.Context().Done()
			close(ended)
			return
		}
		<-release
		_, _ = io.WriteString(w, answerOf)
	}, Config{})
	other := make(chan Outcome, 1)
	go func() { other <- client.Do(t.Context(), lineOf(server.URL, 1)) }()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cancelled := make(chan Outcome, 1)
	go func() {
		request := lineOf(server.URL, 2)
		request.CustomID = "cancelled"
		cancelled <- client.Do(ctx, request)
	}()
	<-started
	cancel()
	if got := <-cancelled; got.Reason != batch.TaskTerminated {
		t.Errorf("cancelled: %s: %s", got.Reason, got.Detail)
	}
	<-ended // the server is told
	close(release)
	if got := <-other; got.Reason != "" {
		t.Errorf("the other call: %s: %s", got.Reason, got.Detail)
	}
}

// Bounds of a response hold for one stream and break no other.
func TestHTTP2Limits(t *testing.T) {
	t.Parallel()
	server, client := newHTTP2(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get(HeaderCustomID) {
		case "large":
			for range 64 {
				_, _ = w.Write(make([]byte, 1<<10))
			}
		case "broken":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, answerOf)
			panic(http.ErrAbortHandler)
		default:
			_, _ = io.WriteString(w, answerOf)
		}
	}, Config{MaxResponseBytes: 10 << 10})
	for customID, want := range map[string]batch.Reason{"large": batch.NonRetriableHTTPStatus, "broken": batch.NetworkError, "good": ""} {
		for n := range 3 {
			request := lineOf(server.URL, n)
			request.CustomID = customID
			if got := client.Do(t.Context(), request); got.Reason != want {
				t.Errorf("%s: %s: %s, want %q", customID, got.Reason, got.Detail, want)
			}
		}
	}
}
