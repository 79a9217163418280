package pgconnect

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// silence is how long an answer may take before the server is asked whether it
	// is there at all, again and again while the answer is not there.
	silence = 5 * time.Second
	// probeTimeout is how long it has to say so.
	probeTimeout = 3 * time.Second
)

// Guard cuts connections to servers that are silent: frozen, or behind a network
// that swallows everything. A statement would wait there for its own timeout,
// which is far above that of a failover. A server that is slow stays: it answers a
// question that needs no login.
type Guard struct {
	silence, probe time.Duration

	mu    sync.Mutex
	conns map[*guardedConn]struct{}
	// probing holds the addresses that are being asked.
	probing map[string]bool
}

// NewGuard returns a guard of connections, of one pool or several.
func NewGuard() *Guard {
	return &Guard{silence: silence, probe: probeTimeout, conns: make(map[*guardedConn]struct{}), probing: make(map[string]bool)}
}

// Install has the guard watch the connections that are made with cfg.
func (g *Guard) Install(cfg *pgx.ConnConfig) {
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &guardedConn{Conn: conn, guard: g, network: network, address: address}
		c.timer = time.AfterFunc(time.Hour, func() { g.suspect(c) })
		c.timer.Stop()
		g.mu.Lock()
		defer g.mu.Unlock()
		g.conns[c] = struct{}{}
		return c, nil
	}
}

// guardedConn watches its reads. Reading is waiting for an answer: pgx does not
// read between statements.
type guardedConn struct {
	net.Conn
	guard            *Guard
	network, address string
	timer            *time.Timer
}

// Read implements net.Conn.
func (c *guardedConn) Read(p []byte) (int, error) {
	c.timer.Reset(c.guard.silence)
	defer c.timer.Stop()
	return c.Conn.Read(p)
}

// Close implements net.Conn.
func (c *guardedConn) Close() error {
	c.timer.Stop()
	c.guard.mu.Lock()
	delete(c.guard.conns, c)
	c.guard.mu.Unlock()
	return c.Conn.Close()
}

// suspect asks the server that owes an answer whether it is there, and cuts every
// connection to it if it is not.
func (g *Guard) suspect(c *guardedConn) {
	g.mu.Lock()
	_, open := g.conns[c]
	asked := g.probing[c.address]
	if open && !asked {
		g.probing[c.address] = true
	}
	g.mu.Unlock()
	switch {
	case !open:
		return
	case asked:
		c.timer.Reset(g.silence)
		return
	}
	alive := answers(c.network, c.address, g.probe)
	g.mu.Lock()
	delete(g.probing, c.address)
	var cut []net.Conn
	for other := range g.conns {
		if !alive && other.address == c.address {
			cut = append(cut, other.Conn)
		}
	}
	if _, open = g.conns[c]; open && alive {
		c.timer.Reset(g.silence) // a read that has ended meanwhile costs one question more
	}
	g.mu.Unlock()
	for _, conn := range cut {
		_ = conn.Close() // readers get net.ErrClosed, and pgx closes the rest
	}
}

// sslRequest asks whether the server speaks TLS, to which it says S or N before any
// login. PostgreSQL documentation, message formats, SSLRequest.
const sslRequest = 80877103

func answers(network, address string, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	if err != nil {
		return false
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok && conn.SetDeadline(deadline) != nil {
		return false
	}
	var message [8]byte
	binary.BigEndian.PutUint32(message[:], uint32(len(message)))
	binary.BigEndian.PutUint32(message[4:], sslRequest)
	if _, err := conn.Write(message[:]); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, message[:1])
	return err == nil
}
