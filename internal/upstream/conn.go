package upstream

import (
	"crypto/tls"
	"errors"
	"io"
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
	parted  atomic.Pointer[broken] // what was read last looks like TLS's goodbye; nil: it does not
	gaveUp  atomic.Pointer[broken] // when what may say 408 began to come; nil: it has not
	awaited atomic.Bool            // a request has taken it, and nothing has been read since
	gather  gather
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
	if c.parted.Load() != nil {
		c.parted.Store(nil) // TLS would not read on
	}
	c.reading.Store(true)
	c.waits.Notify()
	n, err := c.Conn.Read(p)
	c.reading.Store(false)
	switch {
	case err != nil:
		c.breaks(err)
	case c.awaited.Load() && maySay408(p[:n]):
		c.givesUp(p[:n])
	case endsInAlert(p[:n]):
		c.parts()
	}
	c.awaited.Store(false)
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if c.gather.keep(p) {
		return len(p), nil
	}
	given, n, err := c.gather.write(c.Conn, p)
	c.written.Add(given)
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

// breaks notes the first error.
func (c *conn) breaks(err error) {
	if c.broken.Load() != nil {
		return
	}
	b := c.parted.Load()
	if b == nil {
		b = c.ends(err)
	}
	c.broken.CompareAndSwap(nil, b)
}

// ends is an end of the connection at this moment. The peer's kernel acknowledges
// what it takes for its process, and a FIN carries that acknowledgement, as the
// goodbye of TLS does: what was not acknowledged when the connection ended was
// read by nobody before, and cannot be answered any more.
func (c *conn) ends(err error) *broken {
	b := &broken{err: err, unseen: math.MaxInt64}
	if acked, known := ackedBytes(c.raw); known {
		b.unseen = acked
	}
	return b
}

// maxParting is how long a goodbye in place of an answer waits for the end of the
// connection, which the peer closes next.
const maxParting = 50 * time.Millisecond

// parts notes what looks like a goodbye. If it comes in place of an answer, the
// end that follows says whether the request was read: it is a reset if it was not.
// That is seen only now, since the TLS layer says goodbye too, on a
// connection that is closed by then.
func (c *conn) parts() { c.parted.Store(c.endsNext()) }

// endsNext is an end at this moment, with the error that follows where it comes soon.
func (c *conn) endsNext() *broken {
	b := c.ends(io.EOF)
	if c.awaited.Load() && c.raw != nil && c.Conn.SetReadDeadline(time.Now().Add(maxParting)) == nil {
		if err := nextError(c.raw); errors.Is(err, syscall.ECONNRESET) {
			b.err = err
		}
		_ = c.Conn.SetReadDeadline(time.Time{})
	}
	return b
}

// maySay408 holds for the begin of a response with status 408, and for TLS, which
// hides what comes.
func maySay408(read []byte) bool {
	if len(read) >= recordHeader && read[0] == typeData && read[1] == 3 {
		return true
	}
	return len(read) >= len("HTTP/1.1 408") && string(read[:7]) == "HTTP/1." && string(read[8:12]) == " 408"
}

// givesUp notes how much of a request had arrived when the peer answered that it
// waits for one no longer, and whether it has read it: it closes next.
func (c *conn) givesUp(read []byte) {
	switch {
	case read[0] != typeData:
		c.gaveUp.Store(c.endsNext())
	case endsInAlert(read):
		c.parts()
		c.gaveUp.Store(c.parted.Load())
	default:
		c.gaveUp.Store(c.ends(io.EOF))
	}
}

// end is how the connection ended; nil: it is not known that it has.
//
// A peer of TLS says goodbye (close_notify) before it closes. The TLS layer then reads
// no more and closes the connection from this side, so no error is seen here.
func (c *conn) end() *broken {
	if b := c.broken.Load(); b != nil {
		return b
	}
	return c.parted.Load()
}

const (
	recordHeader = 5 // bytes of a TLS record: its type, two of version, two of length
	typeAlert    = 21
	typeData     = 23 // with TLS 1.3 of each record, whatever is in it
)

// alertLengths are those of an encrypted alert: two bytes, the type of TLS 1.3, and what
// a cipher adds. No record of HTTP/2 is as short as that; one of HTTP/1 may be, and
// is followed by a Read.
var alertLengths = [...]int{18, 19, 26, 32, 48, 64}

// endsInAlert reports whether the last TLS record of read looks like an alert, such
// as a goodbye.
func endsInAlert(read []byte) bool {
	for _, length := range alertLengths {
		at := len(read) - recordHeader - length
		if at < 0 {
			return false
		}
		if (read[at] == typeAlert || read[at] == typeData && length == 19) &&
			read[at+1] == 3 && read[at+3] == 0 && read[at+4] == byte(length) {
			return true
		}
	}
	return false
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
