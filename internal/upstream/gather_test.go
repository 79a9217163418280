package upstream

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// writtenTo keeps what is written to a connection.
type writtenTo struct {
	net.Conn
	bytes []byte
}

// Write implements net.Conn.
func (w *writtenTo) Write(p []byte) (int, error) {
	w.bytes = append(w.bytes, p...)
	return len(p), nil
}

// What net/http's buffer for writes does to a request of any size reaches the
// connection whole and in its order, and never waits for more than there is.
func TestGather(t *testing.T) {
	t.Parallel()
	for size := 2; size < 4*writeBufferBytes; size++ {
		header := strings.Repeat("h", min(size/2, 700)) + "\r\n\r\n"
		body := strings.Repeat("b", size)
		to := new(writtenTo)
		var g gather
		for range 2 { // a connection is used again
			g.expect(len(body))
			buffer := bufio.NewWriterSize(writerOf(func(p []byte) (int, error) {
				if g.keep(p) {
					return len(p), nil
				}
				given, n, err := g.write(to, p)
				if want := int64(n); given != want && given != want+writeBufferBytes {
					t.Fatalf("%d bytes were given to the connection, %d of them of this part", given, n)
				}
				return n, err
			}), writeBufferBytes)
			_, _ = io.WriteString(buffer, header)
			_, _ = io.WriteString(buffer, body)
			if err := buffer.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := string(to.bytes); got != header+body {
				t.Fatalf("%d bytes of a request of %d are written", len(got), len(header+body))
			}
			to.bytes = nil
		}
	}
}

type writerOf func(p []byte) (int, error)

// Write implements io.Writer.
func (w writerOf) Write(p []byte) (int, error) { return w(p) }

// Requests whose end is at, before and behind the end of the buffer arrive, one
// after the other on one connection.
func TestRequestsOfAnySizeArrive(t *testing.T) {
	t.Parallel()
	lengths := make(chan int, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			served <- err
			return
		}
		defer conn.Close()
		for r := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				served <- nil
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				served <- err
				return
			}
			lengths <- len(body)
			if _, err := io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
				served <- err
				return
			}
		}
	}()
	c, err := New(Config{Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	for size := 0; size < 2*writeBufferBytes+200; size++ {
		body := bytes.Repeat([]byte("1"), size)
		if out := c.Do(t.Context(), Request{Method: http.MethodPost, BaseURL: "http://" + listener.Addr().String(), Path: "/v1/completions", Body: body}); out.Response.StatusCode != http.StatusOK {
			t.Fatalf("a body of %d bytes: %s %s", size, out.Reason, out.Detail)
		}
		if got := <-lengths; got != size {
			t.Fatalf("%d bytes of a body of %d arrived", got, size)
		}
	}
	c.Close()
	_ = listener.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
}

// A request that overflows the buffer is one write all the same.
func TestGatherWritesOnce(t *testing.T) {
	t.Parallel()
	server, client := net.Pipe()
	defer server.Close()
	got := make(chan int, 1)
	go func() {
		n, _ := io.ReadFull(server, make([]byte, 3*writeBufferBytes))
		got <- n
	}()
	var g gather
	g.expect(2*writeBufferBytes + 500)
	first := append([]byte(strings.Repeat("h", 500)+"\r\n\r\n"), make([]byte, writeBufferBytes-504)...)
	if !g.keep(first) {
		t.Fatal("the first part of a longer request is not kept")
	}
	if g.keep(first) {
		t.Fatal("the second part is kept as well: its end may never be sent")
	}
	given, n, err := g.write(client, make([]byte, 2*writeBufferBytes))
	if err != nil || given != 3*writeBufferBytes || n != 2*writeBufferBytes {
		t.Fatalf("%d bytes are given to the connection, %d of them new: %v", given, n, err)
	}
	if <-got != 3*writeBufferBytes {
		t.Fatal("what was kept is not sent")
	}
	// The connection breaks before what was kept has passed: nothing of the new part has.
	_ = server.Close()
	g.expect(1)
	g.kept = new([writeBufferBytes]byte)
	if given, n, err := g.write(client, []byte("x")); err == nil || given != 0 || n != 0 {
		t.Fatalf("%d bytes are given to a connection that is closed, %d of them new: %v", given, n, err)
	}
}
