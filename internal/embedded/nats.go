package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

const (
	natsStartTimeout = 30 * time.Second
	natsDialTimeout  = 5 * time.Second
)

// NATSConfig says where a NATS server keeps its streams and where it listens.
type NATSConfig struct {
	// DataDir keeps the streams. Required.
	DataDir string
	// Listen is host:port; port 0 takes a free one. Empty: no port is opened,
	// and only this process can connect.
	Listen string
	// Peer makes the server one of a cluster; nil: it is alone.
	Peer *NATSPeer
	// Log takes the server's own messages. Nil: they are dropped.
	Log *slog.Logger
}

// NATS is a server with JetStream in this process. Its methods are safe for
// concurrent use.
type NATS struct {
	dataDir string
	options server.Options
	log     *slog.Logger
	unlock  func() error

	mu     sync.Mutex
	server *server.Server // nil while stopped
	closed bool
}

// StartNATS returns a server that takes connections. The caller must call Stop.
func StartNATS(cfg NATSConfig) (*NATS, error) {
	if cfg.DataDir == "" {
		return nil, errors.New("starting NATS: DataDir is not set")
	}
	dir, err := filepath.Abs(cfg.DataDir)
	if err != nil {
		return nil, fmt.Errorf("starting NATS: %w", err)
	}
	log := cmp.Or(cfg.Log, slog.New(slog.DiscardHandler)).With(slog.String("component", "nats"))
	options := server.Options{
		ServerName:             "fusillade",
		DontListen:             cfg.Listen == "",
		JetStream:              true,
		StoreDir:               dir,
		DisableJetStreamBanner: true,
		NoSigs:                 true,
	}
	if cfg.Listen != "" {
		if options.Host, options.Port, err = splitListen(cfg.Listen); err != nil {
			return nil, fmt.Errorf("starting NATS: %w", err)
		}
	}
	if cfg.Peer != nil {
		if err := cfg.Peer.join(&options); err != nil {
			return nil, fmt.Errorf("starting NATS: %w", err)
		}
	}
	unlock, err := LockDir(dir)
	if err != nil {
		return nil, fmt.Errorf("starting NATS: %w", err)
	}
	n := &NATS{dataDir: dir, options: options, log: log, unlock: unlock}
	if err := n.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("starting NATS: %w", err), unlock())
	}
	return n, nil
}

// splitListen returns the address as the server's options want it, where port 0
// stands for a default and -1 for any.
func splitListen(listen string) (host string, port int, err error) {
	host, portText, err := net.SplitHostPort(listen)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: want host:port", listen)
	}
	number, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("listen address %q: want a port from 0 to 65535", listen)
	}
	if number == 0 {
		return host, server.RANDOM_PORT, nil
	}
	return host, int(number), nil
}

// start runs a new server on the data directory; the caller holds mu, or is the
// only one to know n.
func (n *NATS) start() error {
	if err := n.checkPort(); err != nil {
		return err
	}
	options := n.options
	srv, err := server.NewServer(&options)
	if err != nil {
		return err
	}
	log := &natsLog{log: n.log}
	srv.SetLoggerV2(log, false, false, false)
	srv.Start()
	fatal := log.fatal.Load()
	if fatal == nil && srv.ReadyForConnections(natsStartTimeout) {
		// Clients come back to the same port after a restart.
		if addr, ok := srv.Addr().(*net.TCPAddr); ok {
			n.options.Port = addr.Port
		}
		n.server = srv
		log.started.Store(true)
		return nil
	}
	srv.Shutdown()
	srv.WaitForShutdown()
	if fatal = log.fatal.Load(); fatal != nil {
		return fmt.Errorf("data in %s: %s", n.dataDir, *fatal)
	}
	return fmt.Errorf("data in %s: not ready within %s", n.dataDir, natsStartTimeout)
}

// checkPort gives a taken port an error that can be told from others, which the
// server's own start would only log.
func (n *NATS) checkPort() error {
	if n.options.DontListen || n.options.Port == server.RANDOM_PORT {
		return nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(n.options.Host, strconv.Itoa(n.options.Port)))
	if err != nil {
		return fmt.Errorf("cannot listen on %s:%d; stop what uses it, or choose another address: %w", n.options.Host, n.options.Port, err)
	}
	return l.Close()
}

// URL is what other processes connect to, and empty without an open port.
func (n *NATS) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.options.DontListen || n.server == nil {
		return ""
	}
	return n.server.ClientURL()
}

// Exposed reports whether the server listens where other machines can reach it.
// It asks for no credentials.
func (n *NATS) Exposed() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.options.DontListen || n.server == nil {
		return false
	}
	addr, ok := n.server.Addr().(*net.TCPAddr)
	return !ok || !addr.IP.IsLoopback()
}

// Connect returns a connection: within the process if no port is open. The
// caller closes it.
func (n *NATS) Connect(opts ...nats.Option) (*nats.Conn, error) {
	base := []nats.Option{nats.Timeout(natsDialTimeout)}
	url := n.URL()
	if url == "" {
		base = append(base, nats.InProcessServer(n))
	}
	conn, err := nats.Connect(url, append(base, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the embedded NATS server: %w", err)
	}
	return conn, nil
}

// InProcessConn implements nats.InProcessConnProvider. A client that reconnects
// gets the server of the time.
func (n *NATS) InProcessConn() (net.Conn, error) {
	n.mu.Lock()
	srv := n.server
	n.mu.Unlock()
	if srv == nil {
		return nil, nats.ErrNoServers
	}
	return srv.InProcessConn()
}

// Restart stops the server, cutting every connection, and starts it again on the
// same data and the same port.
func (n *NATS) Restart() error { return n.RestartWith(nil) }

// RestartWith is Restart with a change of the data directory while no server runs.
func (n *NATS) RestartWith(change func(dataDir string) error) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return errors.New("restarting NATS: it has been stopped")
	}
	n.shutDown()
	if change != nil {
		if err := change(n.dataDir); err != nil {
			return fmt.Errorf("restarting NATS: %w", err)
		}
	}
	if err := n.start(); err != nil {
		return fmt.Errorf("restarting NATS: %w", err)
	}
	return nil
}

// Stop shuts the server down, cutting every connection, and returns when it has
// ended. It may be called more than once.
func (n *NATS) Stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	n.shutDown()
	if err := n.unlock(); err != nil {
		return fmt.Errorf("stopping NATS: %w", err)
	}
	return nil
}

func (n *NATS) shutDown() {
	if n.server != nil {
		n.server.Shutdown()
		n.server.WaitForShutdown()
		n.server = nil
	}
}
