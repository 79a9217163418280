// Package proxy passes connections to a server on and disturbs them as a test
// says: it cuts them, slows them down, stalls them.
package proxy

import (
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy listens on a port of 127.0.0.1 of its own. Its methods are safe for
// concurrent use.
type Proxy struct {
	listener net.Listener
	network  string
	running  sync.WaitGroup
	ended    chan struct{} // closed when the test is done

	mu     sync.Mutex
	target string
	away   bool
	delay  time.Duration // of each piece, in either direction
	gate   chan struct{} // closed: pieces pass
	conns  map[net.Conn]bool
}

// New returns a proxy for the server at a network address. It ends, with all its
// connections, when the test is done.
func New(t testing.TB, network, target string) *Proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{
		listener: listener, network: network, target: target,
		ended: make(chan struct{}), gate: make(chan struct{}), conns: make(map[net.Conn]bool),
	}
	close(p.gate)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		close(p.ended)
		p.Cut()
		p.running.Wait()
	})
	return p
}

// Postgres returns a proxy and the URL that reaches the database through it.
func Postgres(t testing.TB, databaseURL string) (*Proxy, string) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	network, target := pgconn.NetworkAddress(cfg.Host, cfg.Port)
	p := New(t, network, target)
	u.Host = p.Addr()
	// A server on a socket is named here, and would win over the proxy.
	query := u.Query()
	query.Del("host")
	query.Del("port")
	u.RawQuery = query.Encode()
	return p, u.String()
}

// NATS returns a proxy and the URL that reaches the broker through it.
func NATS(t testing.TB, brokerURL string) (*Proxy, string) {
	t.Helper()
	u, err := url.Parse(brokerURL)
	if err != nil {
		t.Fatal(err)
	}
	p := New(t, "tcp", u.Host)
	return p, "nats://" + p.Addr()
}

// Addr is the host and port that the proxy listens on.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Cut drops all connections, and those that come, until Restore.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = true
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// Retarget drops all connections, and leads those that come to another server.
func (p *Proxy) Retarget(target string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.target = target
	for conn := range p.conns {
		_ = conn.Close()
	}
}

// Outage cuts the connections for a time.
func (p *Proxy) Outage(d time.Duration) {
	p.Cut()
	defer p.Restore()
	select {
	case <-time.After(d):
	case <-p.ended:
	}
}

// Slow delays each piece that passes, until Restore.
func (p *Proxy) Slow(delay time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = delay
}

// Stall keeps connections open and passes nothing, until Restore.
func (p *Proxy) Stall() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.gate = make(chan struct{})
}

// Drop closes about that share of the connections, once.
func (p *Proxy) Drop(choose *rand.Rand, share float64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if choose.Float64() < share {
			_ = conn.Close()
		}
	}
}

// Restore ends every disturbance.
func (p *Proxy) Restore() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away, p.delay = false, 0
	select {
	case <-p.gate:
	default:
		close(p.gate)
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial(p.network, p.leadsTo())
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			_, _ = client.Close(), server.Close()
			continue
		}
		p.running.Go(func() { p.pass(client, server) })
		p.running.Go(func() { p.pass(server, client) })
	}
}

func (p *Proxy) leadsTo() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.target
}

// keep returns false while connections are cut.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.away {
		return false
	}
	for _, conn := range conns {
		p.conns[conn] = true
	}
	return true
}

func (p *Proxy) disturbance() (time.Duration, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay, p.gate
}

// pass copies one direction, and ends both when it ends.
func (p *Proxy) pass(to, from net.Conn) {
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
			if !p.wait() {
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

// wait holds a piece up as long as it must be, and returns false if the test is
// done.
func (p *Proxy) wait() bool {
	delay, gate := p.disturbance()
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-p.ended:
			return false
		}
	}
	select {
	case <-gate:
		return true
	case <-p.ended:
		return false
	}
}
