package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
)

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

// idle is how many connections the client keeps.
func idle(c *Client) int {
	c.plain.idle.mu.Lock()
	defer c.plain.idle.mu.Unlock()
	return c.plain.idle.n
}

func TestPlainKeepsConnectionsThatCanBeUsedAgain(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, answer string
		status       int
		kept         int
	}{
		{"no content", noContent, 204, 1},
		{"empty body", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, 1},
		{"known length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, 1},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", 200, 1},
		{"interim answers before", "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + noContent, 204, 1},
		{"more than was asked for", noContent + noContent, 204, 0},
		{"to be closed", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}", 200, 0},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\n{}", 200, 0},
		{"switching protocols", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 101, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ended := make(chan struct{})
			base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
				if _, err := readRequest(reader); err == nil {
					_, _ = io.WriteString(conn, test.answer)
					<-ended
				}
			})
			defer close(ended)
			client := newClient(t, Config{})
			if got := client.Do(t.Context(), chatRequest(base)); got.Response.StatusCode != test.status {
				t.Errorf("%+v, want status %d", got, test.status)
			}
			if n := idle(client); n != test.kept {
				t.Errorf("%d connections are kept, want %d", n, test.kept)
			}
		})
	}
}

func TestPlainRefusesEndlessHeaders(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"one line":   "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("text-of-the-answer", 1<<15) + "\r\n\r\n",
		"many lines": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-More: text-of-the-answer\r\n", 1<<15) + "\r\n",
		"interim":    strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100) + noContent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := newClient(t, Config{}).Do(t.Context(), chatRequest(answerRaw(t, answer)))
			if got.Reason != batch.NetworkError {
				t.Errorf("%+v, want a network error", got)
			}
			checkNoSecret(t, got.Detail)
		})
	}
}

// An upstream that refuses a request need not have read it.
func TestPlainReadsAnswerToUnreadRequest(t *testing.T) {
	t.Parallel()
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		_, _ = reader.ReadString('\n')
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, reader)
	})
	request := chatRequest(base)
	request.Body = []byte(`{"pad":"` + strings.Repeat("x", plainBodyBytes-10) + `"}`)
	if got := newClient(t, Config{}).Do(t.Context(), request); got.Response.StatusCode != 413 {
		t.Errorf("%+v, want status 413", got)
	}
}

// An upstream that has closed an idle connection, as a restart does, costs no
// attempt.
func TestPlainNoticesClosedConnections(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	closed := make(chan struct{}, 1)
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		if _, err := readRequest(reader); err == nil {
			calls.Add(1)
			_, _ = io.WriteString(conn, noContent)
		}
		_ = conn.Close()
		closed <- struct{}{}
	})
	client := newClient(t, Config{})
	for range 3 {
		if got := client.Do(t.Context(), chatRequest(base)); got.Reason != "" {
			t.Fatalf("%+v", got)
		}
		<-closed
		// As if it had been idle for longer.
		client.plain.idle.mu.Lock()
		for _, conns := range client.plain.idle.conns {
			for _, c := range conns {
				c.idleSince = c.idleSince.Add(-freshTime)
			}
		}
		client.plain.idle.mu.Unlock()
	}
	if n := calls.Load(); n != 3 {
		t.Errorf("%d calls, want 3", n)
	}
}

func TestPlainClosesIdleConnections(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	client := newClient(t, Config{IdleConnTimeout: time.Millisecond})
	if got := client.Do(t.Context(), chatRequest(base)); got.Reason != "" {
		t.Fatalf("%+v", got)
	}
	for idle(client) > 0 { // for ever if they are not closed
		<-time.After(time.Millisecond)
	}
	if got := client.Do(t.Context(), chatRequest(base)); got.Reason != "" {
		t.Errorf("%+v", got)
	}
}

func TestPlainKeepsNoMoreThanItMay(t *testing.T) {
	t.Parallel()
	const calls = 8
	var arrived atomic.Int32
	all := make(chan struct{})
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if arrived.Add(1) == calls {
			close(all)
		}
		<-all
		w.WriteHeader(http.StatusNoContent)
	})
	client := newClient(t, Config{MaxIdleConnsPerHost: 3})
	outcomes := make(chan Outcome, calls)
	for range calls {
		go func() { outcomes <- client.Do(t.Context(), chatRequest(base)) }()
	}
	for range calls {
		if got := <-outcomes; got.Reason != "" {
			t.Errorf("%+v", got)
		}
	}
	if n := idle(client); n != 3 {
		t.Errorf("%d connections are kept, want 3", n)
	}
	client.Close()
	if n := idle(client); n != 0 {
		t.Errorf("%d connections are kept after Close", n)
	}
}

// A connection whose call was cut off is not used again, even if the answer
// had just come.
func TestPlainDropsConnectionsOfCancelledCalls(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "4")
		_, _ = io.WriteString(w, "half")
	})
	client := newClient(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.plain.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	if n := idle(client); n != 0 {
		t.Errorf("%d connections are kept, want 0", n)
	}
}

func TestThrough(t *testing.T) {
	t.Parallel()
	client := newClient(t, Config{})
	for _, test := range []struct {
		url   string
		bytes int
		plain bool
	}{
		{"http://models.example", 1024, true},
		{"http://models.example", 0, true},
		{"http://models.example", plainBodyBytes, true},
		{"http://models.example", plainBodyBytes + 1, false},
		{"https://models.example", 1024, false},
	} {
		req, err := http.NewRequest(http.MethodPost, test.url, strings.NewReader(strings.Repeat("x", test.bytes)))
		if err != nil {
			t.Fatal(err)
		}
		if _, plain := client.through(req).(*plainTransport); plain != test.plain {
			t.Errorf("%s with %d bytes: plain is %v", test.url, test.bytes, plain)
		}
	}
}
