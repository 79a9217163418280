package upstream

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
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
//   - the peer's kernel had acknowledged none of it when the connection ended, or
//   - the connection was reset at once, which is what a kernel does to a
//     connection that is closed with bytes that its process has not read.
//
// A connection that ended after the endpoint had taken the request costs the
// attempt: the request may have crashed the endpoint, and may have been paid.
type exchange struct {
	trace   httptrace.ClientTrace
	body    []byte
	conn    *conn // that the request is sent on; nil: it is HTTP/2
	from    int64 // the request's first byte among those written to conn
	sent    time.Time
	resends int
}

// follow prepares a request, whose body must not be set yet.
func follow(req *http.Request, body []byte) *http.Request {
	x := &exchange{body: body}
	x.trace.GotConn = x.gotConn
	if len(body) > 0 {
		req.Body, req.GetBody, req.ContentLength = x.reader(), x.resend, int64(len(body))
	}
	return req.WithContext(httptrace.WithClientTrace(req.Context(), &x.trace))
}

func (x *exchange) reader() io.ReadCloser { return io.NopCloser(bytes.NewReader(x.body)) }

// gotConn refuses a connection that was used before and is not quiet. It can do
// so only by closing it: net/http then takes another.
func (x *exchange) gotConn(info httptrace.GotConnInfo) {
	if x.conn = watched(info.Conn); x.conn == nil {
		return
	}
	x.from, x.sent = x.conn.written.Load(), time.Now()
	if info.Reused && !x.conn.quiet() {
		_ = x.conn.Close()
	}
}

// resend is asked for the body when net/http is about to send the request again.
func (x *exchange) resend() (io.ReadCloser, error) {
	if x.conn == nil || x.conn.written.Load() == x.from {
		return x.reader(), nil
	}
	end := x.conn.broken.Load()
	switch {
	case end == nil:
		return nil, net.ErrClosed
	case end.unseen > x.from && (!isReset(end.err) || time.Since(x.sent) > resetWindow), x.resends == maxResends:
		return nil, end.err
	}
	x.resends++
	return x.reader(), nil
}
