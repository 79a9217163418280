package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
)

// roundTrip sends a request, and sends it again where the connection was found
// closed before anything of the request had been written to it: an endpoint
// that closes its idle connections, as servers do after five seconds and when
// they restart, costs no attempt.
//
// net/http does so by itself but for one case: a connection that it sees
// closed between taking it and writing to it. It would in that case too if the
// idempotency key were spelled as it spells it; but then it would also send
// again what the endpoint may have seen, and is paid for.
func (c *Client) roundTrip(req *http.Request) (*http.Response, error) {
	for {
		var use connectionUse
		resp, err := c.transport.RoundTrip(req.WithContext(use.trace(req.Context())))
		if err == nil || !use.unwritten() || req.Context().Err() != nil {
			return resp, err
		}
		// Ends when there are no more idle connections: a new one is not reused.
		if req.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
}

// connectionUse is the last connection that a request was given.
type connectionUse struct {
	conn   atomic.Pointer[countedConn]
	reused atomic.Bool
	before atomic.Int64 // writes to it until then
}

func (u *connectionUse) trace(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) {
		conn := counted(info.Conn)
		u.conn.Store(conn)
		u.reused.Store(info.Reused)
		if conn != nil {
			u.before.Store(conn.writes.Load())
		}
	}})
}

// unwritten reports whether the request failed on a connection that had been
// used before, and without a single write to it.
func (u *connectionUse) unwritten() bool {
	conn := u.conn.Load()
	return conn != nil && u.reused.Load() && conn.writes.Load() == u.before.Load()
}

// countedConn counts what is written to it, before it is written.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

func (c *countedConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// counted finds the counter below TLS. It returns nil for connections of
// HTTP/2, which carry the requests of others as well; there net/http knows by
// the protocol what the endpoint has not begun.
func counted(conn net.Conn) *countedConn {
	if secure, ok := conn.(*tls.Conn); ok {
		if secure.ConnectionState().NegotiatedProtocol == "h2" {
			return nil
		}
		conn = secure.NetConn()
	}
	c, _ := conn.(*countedConn)
	return c
}

// dialCounted wraps a dialer.
func dialCounted(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		return &countedConn{Conn: conn}, nil
	}
}
