package embedded

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// NATSPeer is a server's place in a cluster of NATS servers that share streams.
type NATSPeer struct {
	// Name is the server's own, and must stay the same with its data.
	Name string
	// Listen is host:port where the other servers connect.
	Listen string
	// Routes are host:port of the others, this one may be among them.
	Routes []string
}

// natsClusterName is that of every cluster of ours.
const natsClusterName = "fusillade"

func (p *NATSPeer) join(options *server.Options) (err error) {
	options.ServerName = p.Name
	options.Cluster.Name = natsClusterName
	if options.Cluster.Host, options.Cluster.Port, err = splitListen(p.Listen); err != nil {
		return err
	}
	for _, route := range p.Routes {
		options.Routes = append(options.Routes, &url.URL{Scheme: "nats", Host: route})
	}
	return nil
}

// NATSCluster is several servers in this process, each with a copy of every
// stream that has as many replicas.
type NATSCluster []*NATS

const anyPort = "127.0.0.1:0"

// natsElectionLimit is far above the time of an election, which takes up to 9 s.
const natsElectionLimit = time.Minute

// StartNATSCluster starts n servers (1: one that is alone), each with a directory of its own in
// cfg.DataDir and a free port on 127.0.0.1, and returns when they have elected a
// leader. The caller must call Stop.
func StartNATSCluster(cfg NATSConfig, n int) (c NATSCluster, err error) {
	if n == 1 {
		one, err := StartNATS(NATSConfig{DataDir: cfg.DataDir, Listen: cmp.Or(cfg.Listen, anyPort), Log: cfg.Log})
		if err != nil {
			return nil, err
		}
		return NATSCluster{one}, nil
	}
	routes, err := freePorts(n)
	if err != nil {
		return nil, fmt.Errorf("starting a NATS cluster: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Stop())
		}
	}()
	for i := range n {
		name := "fusillade-" + strconv.Itoa(i+1)
		one, err := StartNATS(NATSConfig{
			DataDir: filepath.Join(cfg.DataDir, name), Listen: cmp.Or(cfg.Listen, anyPort), Log: cfg.Log,
			Peer: &NATSPeer{Name: name, Listen: routes[i], Routes: routes},
		})
		if err != nil {
			return c, err
		}
		c = append(c, one)
	}
	return c, c.awaitLeader()
}

// freePorts returns addresses on which nobody listens now.
func freePorts(n int) (addrs []string, err error) {
	for range n {
		l, err := net.Listen("tcp", anyPort)
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // all at the end, so that no two are the same
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}

func (c NATSCluster) awaitLeader() error {
	deadline := time.NewTimer(natsElectionLimit)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if slices.ContainsFunc(c, func(n *NATS) bool { return n.leads(len(c)) }) {
			return nil
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("starting a NATS cluster: no leader was elected within %s", natsElectionLimit)
		case <-tick.C:
		}
	}
}

// leads reports whether the server leads the cluster and has heard of so many
// servers.
func (n *NATS) leads(servers int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.server != nil && n.server.JetStreamIsLeader() && len(n.server.JetStreamClusterPeers()) >= servers
}

// URLs are what other processes connect to.
func (c NATSCluster) URLs() []string {
	urls := make([]string, len(c))
	for i, n := range c {
		urls[i] = n.URL()
	}
	return urls
}

// Stop stops every server.
func (c NATSCluster) Stop() error {
	var errs []error
	for _, n := range c {
		errs = append(errs, n.Stop())
	}
	return errors.Join(errs...)
}
