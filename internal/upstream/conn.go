package upstream

import (
	"crypto/tls"
	"errors"
	"math"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"fusillade/internal/notify"
)

// conn is a connection to an endpoint, or to a proxy before it, that can tell
// what net/http does not: whether something arrived that nobody asked for, and,
// once it has broken, whether the peer can have seen what was written last.
type conn struct {
	net.Conn
	raw     syscall.RawConn // of the socket; nil: it has none
	reading atomic.Bool     // the reader has taken everything and waits for more
	waits   notify.Signal   // reading has become true
	closed  atomic.Bool
	closing chan struct{}          // closed with the connection
	until   time.Time              // when it is old
	ended   func()                 // called once it is closed
	written atomic.Int64           // bytes given to the socket
	broken  atomic.Pointer[broken] // nil: as far as is known it works
}

// broken is how a connection broke.
type broken struct {
	err    error
	unseen int64 // what was written from this byte on has not reached the peer; math.MaxInt64: unknown
}

// watch makes a connection of what a dial returned, which is closed as soon as
// it is idle after a time; zero: it is not.
func (d *dialer) watch(raw net.Conn, to netip.AddrPort, until time.Time, err error) (net.Conn, error) {
	if err != nil {
		d.closed(to)
		return nil, err
	}
	c := &conn{Conn: raw, waits: notify.New(), closing: make(chan struct{}), until: until, ended: func() { d.closed(to) }}
	if socket, ok := raw.(syscall.Conn); ok {
		c.raw, _ = socket.SyscallConn()
	}
	return c, nil
}

// old reports whether the name that the connection was opened for should be
// looked up again.
func (c *conn) old() bool { return !c.until.IsZero() && time.Now().After(c.until) }

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	c.reading.Store(true)
	c.waits.Notify()
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	if err != nil {
		c.breaks(err)
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.written.Add(int64(n))
	if err != nil {
		c.breaks(err)
	}
	return n, err
}

// Close implements net.Conn.
func (c *conn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		close(c.closing)
		c.ended()
	}
	return c.Conn.Close()
}

// breaks notes the first error. The peer's kernel acknowledges what it takes
// for its process, and a FIN carries that acknowledgement: what was not
// acknowledged when the connection ended has been read by nobody.
func (c *conn) breaks(err error) {
	if c.broken.Load() != nil {
		return
	}
	b := &broken{err: err, unseen: math.MaxInt64}
	if acked, known := ackedBytes(c.raw); known {
		b.unseen = acked
	}
	c.broken.CompareAndSwap(nil, b)
}

// maxSettling is how long quiet waits for the reader. That is in Read again as
// soon as it has run: it has handed over the last answer by then.
const maxSettling = time.Second

// quiet reports whether everything that the peer has sent was read as part of
// an answer, and the connection is open. net/http returns a connection to its
// pool when an answer has been read, and only then looks whether more follows:
// a request that takes the connection in between would be given the surplus as
// its answer, which may be another owner's.
func (c *conn) quiet() bool {
	for !c.reading.Load() {
		select {
		case <-c.waits.C():
		case <-c.closing:
			return false
		case <-time.After(maxSettling):
			return false
		}
	}
	return c.raw == nil || nothingArrived(c.raw)
}

// watched returns the connection that bytes go through; nil: it is not known. Of
// HTTP/2 the frames name the request that they belong to.
func watched(c net.Conn) (over *conn, http2 bool) {
	for {
		switch inner := c.(type) {
		case *conn:
			return inner, http2
		case *tls.Conn:
			http2 = http2 || inner.ConnectionState().NegotiatedProtocol == "h2"
			c = inner.NetConn()
		default:
			return nil, http2
		}
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
