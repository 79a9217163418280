//go:build chaos && unix

package chaos

import (
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// proxy passes connections on, over TCP on its own side, and disturbs them as
// it is told.
type proxy struct {
	listener        net.Listener
	network, target string
	running         sync.WaitGroup

	mu    sync.Mutex
	gone  bool
	delay time.Duration // of each piece, in either direction
	gate  chan struct{} // closed: pieces pass
	conns map[net.Conn]bool
	ended chan struct{}
}

func newProxy(t *testing.T, network, target string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, network: network, target: target, conns: make(map[net.Conn]bool), gate: make(chan struct{}), ended: make(chan struct{})}
	close(p.gate)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		close(p.ended)
		p.cut()
		p.running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listener.Addr().String() }

// cut drops all connections, and those that come, until heal.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// slow delays each piece, until heal.
func (p *proxy) slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// hold keeps connections open and passes nothing, until heal.
func (p *proxy) hold() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// drop closes some of the connections.
func (p *proxy) drop(choose *rand.Rand, share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if choose.Float64() < share {
			_ = conn.Close()
		}
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gone, p.delay = false, 0
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(p.network, p.target)
		if err != nil || !p.keep(client, server) {
			_ = client.Close()
			if err == nil {
				_ = server.Close()
			}
			continue
		}
		p.running.Go(func() { p.pass(client, server) })
		p.running.Go(func() { p.pass(server, client) })
	}
}

func (p *proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return false
	}
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return true
}

func (p *proxy) disturbance() (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay, p.gate
}

// pass copies one direction, and ends both when it ends.
func (p *proxy) pass(to, from net.Conn) {
	defer func() {
		_, _ = to.Close(), from.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, to)
		delete(p.conns, from)
	}()
	piece := make([]byte, 64<<10)
	for {
		n, err := from.Read(piece)
		if n > 0 {
			delay, gate := p.disturbance()
			if delay > 0 {
				wait(delay)
			}
			select {
			case <-gate:
			case <-p.ended:
				return
			}
			if _, err := to.Write(piece[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

func wait(d time.Duration) { <-time.After(d) }
