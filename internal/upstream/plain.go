package upstream

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"time"
)

const (
	// plainBodyBytes is the longest body that plainTransport sends. The sockets
	// buffer one of this size, so the write ends even where the upstream answers
	// without reading it; net/http reads while it writes.
	plainBodyBytes = 32 << 10
	// maxInterim is how many 1xx responses may precede the answer, as in
	// net/http.
	maxInterim = 5
	unlimited  = 1<<63 - 1
)

var (
	errHeaderTooLong = errors.New("response header is too long")
	errInterim       = errors.New("too many 1xx responses")
	longAgo          = time.Unix(1, 0)
)

// plainTransport speaks HTTP/1.1 without TLS or proxy, which is how model
// servers of the same network are called. A call writes its request and reads
// the response itself; net/http's Transport hands both to goroutines of the
// connection, which costs a tenth of all CPU time of the pipeline. The messages
// are written and parsed by net/http all the same.
//
// As there, nothing is sent twice by itself: the upstream may have seen it.
type plainTransport struct {
	dialer net.Dialer
	idle   idleConns
}

// suits reports whether a request can go this way.
func (t *plainTransport) suits(req *http.Request) bool {
	return req.URL.Scheme == "http" && req.ContentLength >= 0 && req.ContentLength <= plainBodyBytes
}

// RoundTrip implements http.RoundTripper. When the request's context ends,
// whatever waits for the connection fails.
func (t *plainTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	conn, err := t.connect(req)
	if err != nil {
		return nil, err
	}
	body := &plainBody{
		idle: &t.idle, conn: conn,
		unwatch: context.AfterFunc(req.Context(), func() { _ = conn.SetDeadline(longAgo) }),
	}
	resp, err := conn.roundTrip(req)
	if err != nil {
		body.release(false)
		return nil, err
	}
	body.reusable = !resp.Close && !conn.broken && resp.StatusCode != http.StatusSwitchingProtocols
	if resp.Body == http.NoBody {
		body.release(body.reusable)
		return resp, nil
	}
	body.ReadCloser, resp.Body = resp.Body, body
	return resp, nil
}

func (t *plainTransport) connect(req *http.Request) (*plainConn, error) {
	port := req.URL.Port()
	if port == "" {
		port = "80"
	}
	address := net.JoinHostPort(req.URL.Hostname(), port)
	if conn := t.idle.get(address); conn != nil {
		return conn, nil
	}
	raw, err := t.dialer.DialContext(req.Context(), "tcp", address)
	if err != nil {
		return nil, err
	}
	return newPlainConn(raw, address), nil
}

// plainConn is a connection, used by one call at a time.
type plainConn struct {
	net.Conn
	address   string
	limit     io.LimitedReader // under reader
	reader    *bufio.Reader
	writer    *bufio.Writer
	broken    bool // by a write that failed
	idleSince time.Time
}

func newPlainConn(raw net.Conn, address string) *plainConn {
	c := &plainConn{Conn: raw, address: address, limit: io.LimitedReader{R: raw}}
	c.reader = bufio.NewReaderSize(&c.limit, bufferBytes)
	c.writer = bufio.NewWriterSize(raw, bufferBytes)
	return c
}

func (c *plainConn) roundTrip(req *http.Request) (*http.Response, error) {
	writeErr := req.Write(c.writer)
	if writeErr == nil {
		writeErr = c.writer.Flush()
	}
	c.broken = writeErr != nil
	// An upstream that refuses a request may answer and close before it has
	// read it all: the answer is worth more than the error.
	resp, err := c.readResponse(req)
	if err != nil && writeErr != nil {
		err = writeErr
	}
	return resp, err
}

func (c *plainConn) readResponse(req *http.Request) (*http.Response, error) {
	for range maxInterim + 1 {
		c.limit.N = maxResponseHeaderBytes
		resp, err := http.ReadResponse(c.reader, req)
		if err != nil && c.limit.N <= 0 {
			err = errHeaderTooLong
		}
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.limit.N = unlimited
			return resp, nil
		}
	}
	return nil, errInterim
}

// plainBody returns the connection once the body has been read to its end, and
// closes it if the body is closed before.
type plainBody struct {
	io.ReadCloser
	idle     *idleConns
	conn     *plainConn
	unwatch  func() bool // false: the context has ended
	reusable bool
	released bool
}

func (b *plainBody) Read(p []byte) (int, error) {
	if b.released {
		return 0, io.EOF
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.release(b.reusable)
	}
	return n, err
}

func (b *plainBody) Close() error {
	b.release(false)
	return nil
}

func (b *plainBody) release(reusable bool) {
	if b.released {
		return
	}
	b.released = true
	// What is buffered was sent unasked.
	if b.unwatch() && reusable && b.conn.reader.Buffered() == 0 {
		b.idle.put(b.conn)
		return
	}
	_ = b.conn.Close()
}
