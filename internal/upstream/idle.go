package upstream

import (
	"sync"
	"time"
)

// freshTime is how long an idle connection is taken for alive unseen.
const freshTime = 20 * time.Millisecond

// idleConns keeps connections between calls.
type idleConns struct {
	timeout    time.Duration // how long an unused connection is kept
	perAddress int           // how many are kept of one address
	total      int           // and of all

	mu     sync.Mutex
	conns  map[string][]*plainConn // by address; the one used last is at the end
	n      int
	reaper *time.Timer // nil: none is idle
	closed bool
}

// get returns a connection that is alive as far as can be seen, or nil.
func (p *idleConns) get(address string) *plainConn {
	for {
		c := p.take(address)
		if c == nil {
			return nil
		}
		idle := time.Since(c.idleSince)
		if idle < freshTime || idle < p.timeout && alive(c.Conn) {
			return c
		}
		_ = c.Close()
	}
}

func (p *idleConns) take(address string) *plainConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	conns := p.conns[address]
	if len(conns) == 0 {
		return nil
	}
	last := len(conns) - 1
	c := conns[last]
	conns[last] = nil
	p.conns[address] = conns[:last]
	p.n--
	return c
}

// put keeps a connection for later, or closes it if there are enough.
func (p *idleConns) put(c *plainConn) {
	c.idleSince = time.Now()
	if !p.keep(c) {
		_ = c.Close()
	}
}

func (p *idleConns) keep(c *plainConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.n >= p.total || len(p.conns[c.address]) >= p.perAddress {
		return false
	}
	if p.conns == nil {
		p.conns = make(map[string][]*plainConn)
	}
	p.conns[c.address] = append(p.conns[c.address], c)
	p.n++
	if p.reaper == nil {
		p.reaper = time.AfterFunc(p.timeout, p.reap)
	}
	return true
}

// reap closes what has been idle for too long, and comes again as long as
// something is idle.
func (p *idleConns) reap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := time.Now().Add(-p.timeout)
	for address, conns := range p.conns {
		old := 0
		for old < len(conns) && !conns[old].idleSince.After(before) {
			_ = conns[old].Close()
			old++
		}
		p.n -= old
		if old == len(conns) {
			delete(p.conns, address)
		} else if old > 0 {
			p.conns[address] = append([]*plainConn(nil), conns[old:]...)
		}
	}
	p.reaper = nil
	if p.n > 0 && !p.closed {
		p.reaper = time.AfterFunc(p.timeout/2, p.reap)
	}
}

// close closes all of them, and whatever is put back later.
func (p *idleConns) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	for _, conns := range p.conns {
		for _, c := range conns {
			_ = c.Close()
		}
	}
	p.conns, p.n = nil, 0
	if p.reaper != nil {
		p.reaper.Stop()
	}
}
