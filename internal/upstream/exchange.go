package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"syscall"
	"time"
)

const (
	// maxResends is how often a request is sent again within one attempt.
	maxResends = 3
	// resetWindow is how soon after a request a reset must come to mean that the
	// peer closed the connection before it had read the request.
	resetWindow = time.Second
)

// exchange follows one call through net/http, which sends a request again if
// the connection was used before and breaks before an answer begins. It would
// do so whatever the endpoint has done meanwhile, for a request with an
// Idempotency-Key; an exchange lets it only if the endpoint cannot have begun:
//
//   - nothing of the request was written, or
//   - the peer's kernel had acknowledged none of it when the connection ended,
//     or when the peer said TLS's goodbye before that (see conn.end), or
//   - the connection was reset at once, which is what a kernel does to a
//     connection that is closed with bytes that its process has not read.
//
// A 408 by which a proxy ends a connection that was idle is no answer to a request
// that comes at that moment: it is sent again likewise.
//
// With HTTP/2 net/http sends a request again that the endpoint says it has not
// begun. What else breaks is tried again by the client, by the same rules (see
// unbegun); a reset counts only on a connection without other requests.
//
// A connection that ended after the endpoint had taken the request costs the
// attempt: the request may have crashed the endpoint, and may have been paid.
type exchange struct {
	trace   httptrace.ClientTrace
	body    []byte
	conn    *conn // that the request is sent on; nil: it is not known
	http2   bool  // it may have other requests on it
	reused  bool  // it had a request before
	alone   bool  // it had none when the request took it
	from    int64 // the request's first byte among those written to conn
	sent    time.Time
	resends int
}

// follow begins an exchange. The request is to be made with the context that it
// returns, and then given its body.
func follow(ctx context.Context, body []byte) (context.Context, *exchange) {
	x := &exchange{body: body}
	x.trace.GotConn = x.gotConn
	return httptrace.WithClientTrace(ctx, &x.trace), x
}

func (x *exchange) setBody(req *http.Request) {
	if len(x.body) > 0 {
		req.Body, req.GetBody, req.ContentLength = x.reader(), x.resend, int64(len(x.body))
	}
}

// reader is of types that net/http knows to be in memory: of others it sends the
// header by itself.
func (x *exchange) reader() io.ReadCloser { return io.NopCloser(bytes.NewReader(x.body)) }

// gotConn refuses a connection that was used before and is old or not quiet. It can do
// so only by closing it: net/http then takes another.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	if x.conn, x.http2 = watched(info.Conn); x.conn == nil {
		return
	}
	x.from, x.sent, x.alone, x.reused = x.conn.written.Load(), time.Now(), info.WasIdle, info.Reused
	x.conn.gaveUp.Store(nil)
	x.conn.awaited.Store(true)
	if x.conn == info.Conn { // else TLS is in between, and writes what it makes of it
		x.conn.gather.expect(len(x.body))
	}
	if !x.http2 && info.Reused && (x.conn.old() || !x.conn.quiet()) {
		_ = x.conn.Close()
	}
}

// resend is asked for the body when net/http is about to send the request again.
func (x *exchange) resend() (io.ReadCloser, error) {
	if x.http2 || x.conn == nil || x.unwritten() {
		return x.reader(), nil
	}
	if err := x.begun(); err != nil {
		return nil, err
	}
	x.resends++
	return x.reader(), nil
}

// unwritten reports whether no byte was given to the connection since the request
// took it.
func (x *exchange) unwritten() bool { return x.conn.written.Load() == x.from }

// begun returns nil if the endpoint cannot have begun the request; else what the
// request ended with.
func (x *exchange) begun() error {
	end := x.conn.end()
	switch {
	case end == nil:
		return net.ErrClosed
	case x.resends == maxResends:
		return end.err
	case end.unseen <= x.from, x.wasReset(end.err) && time.Since(x.sent) <= resetWindow:
		return nil
	}
	return end.err
}

// wasReset reports whether the error says that bytes of the request were not read.
// EPIPE says that the peer had closed before bytes came: with HTTP/1 those are of
// the request, which then was not whole; with HTTP/2 they may be of a later frame.
func (x *exchange) wasReset(err error) bool {
	if x.http2 {
		return x.alone && errors.Is(err, syscall.ECONNRESET)
	}
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// unbegun returns the request, to be sent again, if the endpoint cannot have begun it
// and net/http does not send it again: it failed with an HTTP/2 connection, or was
// answered by what closes idle connections; else nil.
func (x *exchange) unbegun(req *http.Request, resp *http.Response, err error) *http.Request {
	switch {
	case x.conn == nil || req.Context().Err() != nil || x.resends == maxResends:
		return nil
	case err == nil && !x.unread(resp):
		return nil
	case err != nil && (!x.http2 || !x.unwritten() && x.begun() != nil):
		return nil
	}
	if err == nil {
		_ = resp.Body.Close()
	}
	x.resends++
	x.conn = nil // of which nothing counts, should there be no other
	again := req.Clone(req.Context())
	if len(x.body) > 0 {
		again.Body = x.reader()
	}
	return again
}

// unread reports whether a response is that of a proxy or server which ends an idle
// connection with 408, and did so as this request came, of which it has read nothing or
// not all: the end is known as that of connections without an answer is.
func (x *exchange) unread(resp *http.Response) bool {
	if resp.StatusCode != http.StatusRequestTimeout || x.http2 || !x.reused {
		return false
	}
	end := x.conn.gaveUp.Load()
	return end != nil && (end.unseen <= x.from || x.wasReset(end.err) && time.Since(x.sent) <= resetWindow)
}
