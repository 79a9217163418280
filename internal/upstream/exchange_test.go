package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

const (
	noContent = "HTTP/1.1 204 No Content\r\n\r\n"
	okBody    = `{"choices":[{"message":{"content":"ok"}}]}`
)

// A connection that the endpoint closes between being taken and being written
// to costs no attempt.
func TestConnectionClosedBeforeTheRequestIsWritten(t *testing.T) {
	t.Parallel()
	var begun atomic.Int32
	hangUp := make(chan struct{})
	release := sync.OnceFunc(func() { close(hangUp) })
	t.Cleanup(release)
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		if _, err := readRequest(reader); err == nil {
			begun.Add(1)
			_, _ = io.WriteString(conn, noContent)
		}
		<-hangUp
	})
	client := newClient(t, Config{})
	if got := client.Do(t.Context(), chatRequest(base)); got.Response.StatusCode != http.StatusNoContent {
		t.Fatalf("%+v", got)
	}
	var reused atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			return
		}
		reused.Add(1)
		release()
		testenv.Until(t, 30*time.Second, "net/http sees the close", func() bool { return info.Conn.SetDeadline(time.Time{}) != nil })
	}})
	if got := client.Do(ctx, chatRequest(base)); got.Response.StatusCode != http.StatusNoContent {
		t.Errorf("%s: %s", got.Reason, got.Detail)
	}
	if reused.Load() != 1 || begun.Load() != 2 {
		t.Errorf("%d calls took an idle connection and the endpoint began %d, want 1 and 2", reused.Load(), begun.Load())
	}
}

// A response that nobody asked for, such as some proxy sends, is not the answer
// of the next call: the connection on which it comes is closed.
func TestSurplusResponseIsNobodysAnswer(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		req, err := readRequest(reader)
		if err != nil {
			return
		}
		id := req.Header.Get(HeaderCustomID)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
		_, _ = fmt.Fprintf(conn, "HTTP/1.1 400 Bad\r\nContent-Length: 7\r\n\r\nsurplus")
		if _, err := reader.Peek(1); err == nil {
			t.Error("the connection was used again")
		}
		closed <- struct{}{}
	})
	client := newClient(t, Config{})
	for i := range 20 {
		request := chatRequest(base)
		request.CustomID = fmt.Sprint("id-", i)
		if got := client.Do(t.Context(), request); string(got.Response.Body) != request.CustomID {
			t.Fatalf("call %d was given the body %q, want its own id", i, got.Response.Body)
		}
		select {
		case <-closed:
		case <-time.After(10 * time.Second):
			t.Fatal("a connection with a surplus response is kept")
		}
	}
}

// An endpoint that closes a connection as soon as it has answered, and does not
// say so, costs no attempt, however soon the next call comes.
func TestConnectionClosedAfterEachAnswer(t *testing.T) {
	t.Parallel()
	t.Run("no TLS", func(t *testing.T) {
		t.Parallel()
		checkClosedAfterEachAnswer(t, newClient(t, Config{}), "http", 200, func(conn net.Conn) net.Conn { return conn })
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			certified, client := newHTTP2(t, nil, Config{})
			cfg := &tls.Config{Certificates: certified.TLS.Certificates, MaxVersion: version}
			checkClosedAfterEachAnswer(t, client, "https", 60, func(conn net.Conn) net.Conn { return tls.Server(conn, cfg) })
		})
	}
}

// checkClosedAfterEachAnswer has some callers do so many calls each, over connections
// that accept makes of those that come in.
func checkClosedAfterEachAnswer(t *testing.T, client *Client, scheme string, calls int, accept func(net.Conn) net.Conn) {
	t.Helper()
	const callers = 4
	var seen sync.Map // by custom id: how often
	base := newRawServer(t, func(raw *net.TCPConn, _ *bufio.Reader) {
		conn := accept(raw)
		req, err := readRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		count, _ := seen.LoadOrStore(req.Header.Get(HeaderCustomID), new(atomic.Int32))
		count.(*atomic.Int32).Add(1)
		_, _ = io.WriteString(conn, noContent)
		_ = conn.Close()
	})
	base = scheme + strings.TrimPrefix(base, "http")
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
}

// A request that the endpoint's process has not read when it closes the
// connection is sent again, though the endpoint's kernel has taken it.
func TestConnectionClosedWithTheRequestUnread(t *testing.T) {
	t.Parallel()
	var connections atomic.Int32
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		first := connections.Add(1) == 1
		if _, err := readRequest(reader); err != nil {
			return
		}
		_, _ = io.WriteString(conn, noContent)
		if !first {
			return
		}
		// It has arrived, and the process does not read it.
		raw, err := conn.SyscallConn()
		if err != nil {
			t.Error(err)
			return
		}
		_ = raw.Read(func(fd uintptr) bool { return !nothingIn(fd) })
	})
	client := newClient(t, Config{})
	for range 2 {
		if got := client.Do(t.Context(), chatRequest(base)); got.Response.StatusCode != http.StatusNoContent {
			t.Errorf("%s: %s", got.Reason, got.Detail)
		}
	}
	if n := connections.Load(); n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
}

// A proxy that ends an idle connection with 408, as a request is on its way that it
// does not read, costs no attempt; one that has read the request does.
func TestIdleConnectionEndsWith408(t *testing.T) {
	t.Parallel()
	const gaveUp = "HTTP/1.1 408 Request Time-out\r\nContent-Length: 16\r\n%s\r\n<html>bye</html>"
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(secure.Close)
	roots := x509.NewCertPool()
	roots.AddCert(secure.Certificate())
	for _, test := range []struct {
		name   string
		secure bool
		header string
		reads  bool // the request, before it gives up
		want   batch.Reason
		calls  int32
	}{
		{"unread", false, "Connection: close\r\n", false, "", 2},
		{"unread, without a word of the close", false, "", false, "", 2},
		{"read", false, "Connection: close\r\n", true, batch.RetriableHTTPStatus, 1},
		{"read, TLS", true, "Connection: close\r\n", true, batch.RetriableHTTPStatus, 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var connections, answered atomic.Int32
			base := newRawServer(t, func(raw *net.TCPConn, reader *bufio.Reader) {
				conn := net.Conn(raw)
				if test.secure {
					conn = tls.Server(raw, &tls.Config{Certificates: secure.TLS.Certificates})
					defer conn.Close()
					reader = bufio.NewReader(conn)
				}
				first := connections.Add(1) == 1
				for {
					if _, err := readRequest(reader); err != nil {
						return
					}
					answered.Add(1)
					_, _ = fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(okBody), okBody)
					if first {
						break
					}
				}
				if test.reads {
					_, _ = readRequest(reader)
				} else if socket, err := raw.SyscallConn(); err == nil {
					_ = socket.Read(func(fd uintptr) bool { return !nothingIn(fd) }) // it has arrived
				}
				_, _ = fmt.Fprintf(conn, gaveUp, test.header)
			})
			if test.secure {
				base = strings.Replace(base, "http://", "https://", 1)
			}
			client := newClient(t, Config{TLS: &tls.Config{RootCAs: roots}, NoHTTP2: true})
			if got := client.Do(t.Context(), chatRequest(base)); got.Reason != "" {
				t.Fatalf("%s: %s", got.Reason, got.Detail)
			}
			got := client.Do(t.Context(), chatRequest(base))
			if got.Reason != test.want || answered.Load() != test.calls {
				t.Errorf("%q (%s) after %d answers, want %q after %d", got.Reason, got.Detail, answered.Load(), test.want, test.calls)
			}
			if test.reads && got.Response.StatusCode != http.StatusRequestTimeout {
				t.Errorf("status %d", got.Response.StatusCode)
			}
		})
	}
}

// Surplus responses that come at once are nobody's answer either, while other
// calls wait for a connection.
func TestSurplusResponsesAmongManyCalls(t *testing.T) {
	t.Parallel()
	const callers, calls = 8, 100
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for {
			req, err := readRequest(reader)
			if err != nil {
				return
			}
			id := req.Header.Get(HeaderCustomID)
			answer := fmt.Sprintf("HTTP/1.1 400 Bad\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
			_, _ = io.WriteString(conn, answer+"HTTP/1.1 400 Bad\r\nContent-Length: 7\r\n\r\nsurplus")
		}
	})
	client := newClient(t, Config{})
	var calling sync.WaitGroup
	for caller := range callers {
		calling.Go(func() {
			for i := range calls {
				request := chatRequest(base)
				request.CustomID = fmt.Sprint(caller, "-", i)
				if got := client.Do(t.Context(), request); string(got.Response.Body) != request.CustomID {
					t.Errorf("call %s was given the body %q: %s", request.CustomID, got.Response.Body, got.Detail)
				}
			}
		})
	}
	calling.Wait()
}

func TestEndlessHeadersAreRefused(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"one line":   "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("text-of-the-answer", 1<<15) + "\r\n\r\n",
		"many lines": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-More: text-of-the-answer\r\n", 1<<15) + "\r\n",
		"interim":    strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 20000) + noContent,
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

// An endpoint that refuses a request need not have read it.
func TestAnswerToAnUnreadRequestIsRead(t *testing.T) {
	t.Parallel()
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		_, _ = reader.ReadString('\n')
		_, _ = io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		_ = conn.CloseWrite()
		_, _ = io.Copy(io.Discard, reader)
	})
	request := chatRequest(base)
	request.Body = []byte(`{"pad":"` + strings.Repeat("x", 4<<20) + `"}`)
	if got := newClient(t, Config{}).Do(t.Context(), request); got.Response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("%+v, want status 413", got)
	}
}
