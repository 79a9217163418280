package upstream

import (
	"bytes"
	"net"
	"sync"
)

// gather makes one write of a request that does not fit into net/http's buffer for
// writes, which is small since each connection keeps its own: the part that
// overflows the buffer is kept for the moment until the next one comes. Only the
// goroutine that writes uses it, and expect before that.
type gather struct {
	begins bool // the next write is the first of a request
	body   int  // its length
	kept   *[writeBufferBytes]byte
}

var gathered = sync.Pool{New: func() any { return new([writeBufferBytes]byte) }}

var headerEnd = []byte("\r\n\r\n")

// expect says that a request with such a body comes next.
func (g *gather) expect(body int) { g.begins, g.body = true, body }

// keep keeps a part to which more of the same request is to come, and reports
// whether it does. Whether more comes is counted, not guessed: nothing would ever
// send the end of a request.
func (g *gather) keep(p []byte) bool {
	if !g.begins {
		return false
	}
	g.begins = false
	if len(p) != writeBufferBytes {
		return false
	}
	if end := bytes.Index(p, headerEnd); end >= 0 && end+len(headerEnd)+g.body <= len(p) {
		return false
	}
	g.kept, _ = gathered.Get().(*[writeBufferBytes]byte)
	copy(g.kept[:], p)
	return true
}

// write writes p behind what was kept. Given is what the connection has taken, n how
// much of p.
func (g *gather) write(to net.Conn, p []byte) (given int64, n int, err error) {
	if g.kept == nil {
		n, err = to.Write(p)
		return int64(n), n, err
	}
	parts := net.Buffers{g.kept[:], p}
	given, err = parts.WriteTo(to)
	gathered.Put(g.kept)
	g.kept = nil
	return given, max(int(given)-writeBufferBytes, 0), err
}
