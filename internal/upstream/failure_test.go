package upstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv/loopback"
)

// short is a timeout that tests do wait for; nothing depends on how long.
const short = 500 * time.Millisecond

// newRawServer serves each connection with serve, which has read nothing yet,
// and closes it at the end of serve or of the test.
func newRawServer(t testing.TB, serve func(conn *net.TCPConn, reader *bufio.Reader)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
				serve(conn.(*net.TCPConn), bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = listener.Close()
		serving.Wait()
	})
	return "http://" + listener.Addr().String()
}

// answerRaw reads one request and writes the text in answer to it.
func answerRaw(t testing.TB, answer string) string {
	return newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		if _, err := readRequest(reader); err == nil {
			_, _ = io.WriteString(conn, answer)
		}
	})
}

func readRequest(reader *bufio.Reader) (*http.Request, error) {
	request, err := http.ReadRequest(reader)
	if err != nil {
		return nil, err
	}
	_, err = io.Copy(io.Discard, request.Body)
	return request, err
}

func TestDoBrokenCalls(t *testing.T) {
	t.Parallel()
	hang := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	hangInBody := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, "text-of-the-answer")
		w.(http.Flusher).Flush()
		hang(w, r)
	}
	for _, test := range []struct {
		name    string
		base    func(t *testing.T) string
		timeout time.Duration
		reason  batch.Reason
		detail  string // a part of it
	}{
		{"never answers", func(t *testing.T) string { return newServer(t, hang) },
			short, batch.Timeout, "timed out after 500ms waiting for the response"},
		{"stalls in the body", func(t *testing.T) string { return newServer(t, hangInBody) },
			short, batch.Timeout, "reading the body of status 200"},
		{"half a body", func(t *testing.T) string {
			return answerRaw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntext-of-the-answer")
		}, 0, batch.NetworkError, "reading the body of status 200: upstream closed the connection"},
		{"half a chunked body", func(t *testing.T) string {
			return answerRaw(t, "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n12\r\ntext-of-the-answer\r\n")
		}, 0, batch.NetworkError, "reading the body of status 400"},
		{"no answer", func(t *testing.T) string { return answerRaw(t, "") },
			0, batch.NetworkError, "waiting for the response: upstream closed the connection"},
		{"no HTTP", func(t *testing.T) string { return answerRaw(t, "text-of-the-answer\r\n\r\n") },
			0, batch.NetworkError, "malformed"},
		{"bad header", func(t *testing.T) string {
			return answerRaw(t, "HTTP/1.1 200 OK\r\ntext-of-the-answer\r\n\r\n")
		}, 0, batch.NetworkError, "malformed"},
		{"reset", func(t *testing.T) string {
			return newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
				_, _ = readRequest(reader)
				_ = conn.SetLinger(0)
			})
		}, 0, batch.NetworkError, "connection reset by peer"},
		{"refused", func(t *testing.T) string {
			return "http://" + loopback.Addr(t)
		}, 0, batch.NetworkError, "connection refused"},
		{"no such host", func(*testing.T) string { return "http://host.invalid" },
			0, batch.NetworkError, "looking up host.invalid"},
		{"http where https is expected", func(t *testing.T) string {
			return strings.Replace(newServer(t, hang), "http://", "https://", 1)
		}, 0, batch.NetworkError, "may be http, not https"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			request := chatRequest(withSecrets(t, test.base(t)))
			got := newClient(t, Config{Timeout: test.timeout}).Do(t.Context(), request)
			if got.Reason != test.reason || !strings.Contains(got.Detail, test.detail) {
				t.Errorf("%s: %q\nwant %s: …%q…", got.Reason, got.Detail, test.reason, test.detail)
			}
			if got.Response.StatusCode != 0 || got.Response.Body != nil {
				t.Errorf("an incomplete answer is reported: %+v", got.Response)
			}
			checkNoSecret(t, got.Detail)
		})
	}
}

// withSecrets puts user, password and a query into a base URL.
func withSecrets(t testing.TB, base string) string {
	t.Helper()
	u, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("name-of-the-user", "password-of-the-user")
	u.RawQuery = "token=query-of-the-user"
	return u.String()
}

func checkNoSecret(t testing.TB, detail string) {
	t.Helper()
	if strings.Contains(detail, "of-the-user") || strings.Contains(detail, "of-the-answer") {
		t.Errorf("detail holds a secret: %q", detail)
	}
}

func TestDoCancelledInFlight(t *testing.T) {
	t.Parallel()
	started, aborted := make(chan struct{}), make(chan struct{})
	base := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(started)
		<-r.Context().Done()
		close(aborted)
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	outcome := make(chan Outcome)
	client := newClient(t, Config{})
	go func() { outcome <- client.Do(ctx, chatRequest(base)) }()
	<-started
	cancel()
	if got := <-outcome; got.Reason != batch.TaskTerminated {
		t.Errorf("%+v", got)
	}
	<-aborted
}

func TestDoDeadlineOfTheCallerIsNoTimeout(t *testing.T) {
	t.Parallel()
	base := newServer(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithTimeout(t.Context(), short)
	defer cancel()
	if got := newClient(t, Config{}).Do(ctx, chatRequest(base)); got.Reason != batch.TaskTerminated {
		t.Errorf("%+v", got)
	}
}

func TestDoLargeBody(t *testing.T) {
	t.Parallel()
	const limit = 3 << 20
	for _, test := range []struct {
		name   string
		status int
		bytes  int
		known  bool
		want   batch.Reason
	}{
		{"at the limit", 200, limit, false, ""},
		{"at the limit, known", 200, limit, true, ""},
		{"beyond", 200, limit + 1, false, batch.NonRetriableHTTPStatus},
		{"beyond, known", 200, limit + 1, true, batch.NonRetriableHTTPStatus},
		{"beyond, final error", 400, limit + 1, false, batch.NonRetriableHTTPStatus},
		{"beyond, error to retry", 500, limit + 1, true, batch.RetriableHTTPStatus},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			base := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
				if !test.known {
					w.Header().Set("Trailer", "X-Chunked") // rules out a Content-Length
				}
				w.WriteHeader(test.status)
				_, _ = io.WriteString(w, okBody[:len(okBody)-1]+strings.Repeat(" ", test.bytes-len(okBody))+"}")
			})
			if test.known {
				base = newServer(t, func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Length", strconv.Itoa(test.bytes))
					w.WriteHeader(test.status)
					_, _ = io.WriteString(w, okBody[:len(okBody)-1]+strings.Repeat(" ", test.bytes-len(okBody))+"}")
				})
			}
			got := newClient(t, Config{MaxResponseBytes: limit}).Do(t.Context(), chatRequest(base))
			if got.Reason != test.want || got.Response.StatusCode != test.status {
				t.Fatalf("%s, status %d: %s", got.Reason, got.Response.StatusCode, got.Detail)
			}
			if test.bytes <= limit {
				if len(got.Response.Body) != test.bytes {
					t.Errorf("body of %d bytes, want %d", len(got.Response.Body), test.bytes)
				}
				return
			}
			if got.Response.Body != nil || !strings.Contains(got.Detail, "more than 3145728 bytes") {
				t.Errorf("body of %d bytes: %s", len(got.Response.Body), got.Detail)
			}
		})
	}
}

// An upstream may close a connection after it has seen the request, because
// the request crashed it. Sending it again then is not for us to decide.
func TestDoNeverSendsTwiceWhatMayHaveBeenSeen(t *testing.T) {
	t.Parallel()
	var seen atomic.Int32
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		for {
			if _, err := readRequest(reader); err != nil || seen.Add(1) == 2 {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(len(okBody))+"\r\n\r\n"+okBody)
		}
	})
	client := newClient(t, Config{})
	if got := client.Do(t.Context(), chatRequest(base)); got.Reason != "" {
		t.Fatalf("%+v", got)
	}
	if got := client.Do(t.Context(), chatRequest(base)); got.Reason != batch.NetworkError {
		t.Errorf("%+v", got)
	}
	if n := seen.Load(); n != 2 {
		t.Errorf("the upstream saw %d requests, want 2", n)
	}
}
