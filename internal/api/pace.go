package api

import (
	"context"
	"io"
	"net/http"
	"time"
)

// paceBytes must arrive, or be taken, within Config.ClientTimeout.
const paceBytes = 64 << 10

// pacedReader reads a body for as long as it goes on, and fails when the client
// stalls.
type pacedReader struct {
	io.Reader
	control *http.ResponseController
	timeout time.Duration
	left    int       // to come before the deadline
	last    time.Time // that any deadline may be

	deadline time.Time
	returned time.Time // when the last Read did
}

// pacedReader reads the body of a call until the context's deadline.
func (s *Server) pacedReader(ctx context.Context, c *call) *pacedReader {
	last, _ := ctx.Deadline()
	return &pacedReader{Reader: c.Body, control: http.NewResponseController(c.w), timeout: s.cfg.ClientTimeout, last: last}
}

// Read does not hold against the client what passed between two reads: that
// was us, writing to a database that is slow.
func (p *pacedReader) Read(b []byte) (int, error) {
	now := time.Now()
	if p.left <= 0 {
		p.left, p.deadline = paceBytes, now.Add(p.timeout)
		p.setDeadline()
	} else if away := now.Sub(p.returned); away > p.timeout/100 {
		p.deadline = p.deadline.Add(away)
		p.setDeadline()
	}
	n, err := p.Reader.Read(b)
	p.left -= n
	p.returned = time.Now()
	return n, err
}

func (p *pacedReader) setDeadline() {
	deadline := p.deadline
	if deadline.After(p.last) {
		deadline = p.last
	}
	_ = p.control.SetReadDeadline(deadline)
}

// maxDrained is how much is read of a body that is refused for its length.
const maxDrained = 16 << 20

// drain reads on what was refused for its length. Many clients look for an answer
// when they have sent everything, and would find a connection that was reset.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	rest := &pacedReader{Reader: r.Body, control: http.NewResponseController(w), timeout: s.cfg.ClientTimeout, last: time.Now().Add(s.cfg.ClientTimeout)}
	_, _ = io.CopyN(io.Discard, rest, maxDrained)
}

// pacedWriter writes for as long as the client takes it.
type pacedWriter struct {
	io.Writer
	control *http.ResponseController
	timeout time.Duration
}

func (s *Server) pacedWriter(w http.ResponseWriter) pacedWriter {
	return pacedWriter{w, http.NewResponseController(w), s.cfg.ClientTimeout}
}

func (p pacedWriter) Write(b []byte) (written int, err error) {
	for len(b) > 0 && err == nil {
		var n int
		_ = p.control.SetWriteDeadline(time.Now().Add(p.timeout))
		n, err = p.Writer.Write(b[:min(len(b), paceBytes)])
		written, b = written+n, b[n:]
	}
	return written, err
}
