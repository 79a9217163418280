package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/testenv"
)

const noContent = "HTTP/1.1 204 No Content\r\n\r\n"

// A connection that the endpoint closes between being taken and being written
// to costs no attempt.
func TestConnectionClosedBeforeTheRequestIsWritten(t *testing.T) {
	t.Parallel()
	var begun atomic.Int32
	hangUp := make(chan struct{})
	base := newRawServer(t, func(conn *net.TCPConn, reader *bufio.Reader) {
		if _, err := readRequest(reader); err == nil {
			begun.Add(1)
			_, _ = io.WriteString(conn, noContent)
		}
		<-hangUp
	})
	client := newClient(t, Config{})
	if got := client.Do(t.Context(), chatRequest(base)); got.Reason != "" {
		t.Fatalf("%+v", got)
	}
	var reused atomic.Int32
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		if !info.Reused {
			return
		}
		reused.Add(1)
		close(hangUp)
		testenv.Until(t, 30*time.Second, "net/http sees the close", func() bool { return info.Conn.SetDeadline(time.Time{}) != nil })
	}})
	if got := client.Do(ctx, chatRequest(base)); got.Reason != "" {
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
