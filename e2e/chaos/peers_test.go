//go:build chaos && unix

package chaos

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/testenv/loopback"
	"fusillade/internal/testenv/proxy"
)

// replicatedSettings have daemons outlive an election, which takes up to 9 s.
var replicatedSettings = []string{
	"FUSILLADE_STREAM_REPLICAS=3", "FUSILLADE_HEARTBEAT_INTERVAL_MS=1000", "FUSILLADE_STALE_DAEMON_THRESHOLD_MS=12000",
}

// peers are three brokers with a copy of everything each. A proxy stands before
// each for clients, and one on the way from each to each other.
type peers struct {
	t       *testing.T
	brokers []*broker
	clients []*proxy.Proxy
	routes  [][]*proxy.Proxy // [from][to]
}

func newPeers(t *testing.T) *peers {
	t.Helper()
	const n = 3
	p := &peers{t: t, routes: make([][]*proxy.Proxy, n)}
	listen := make([]string, n)
	for i := range n {
		listen[i] = loopback.Addr(t)
	}
	for i := range n {
		peer := []string{fmt.Sprintf("n%d", i+1), listen[i]}
		p.routes[i] = make([]*proxy.Proxy, n)
		for j := range n {
			if i != j {
				p.routes[i][j] = proxy.New(t, "tcp", listen[j])
				peer = append(peer, p.routes[i][j].Addr())
			}
		}
		b := &broker{t: t, dir: t.TempDir(), addr: loopback.Addr(t), hints: "kept", peer: strings.Join(peer, ",")}
		p.brokers = append(p.brokers, b)
		p.clients = append(p.clients, proxy.New(t, "tcp", b.addr))
		b.launch()
		t.Cleanup(func() {
			b.kill()
		})
	}
	for _, b := range p.brokers {
		b.answers()
	}
	return p
}

// urls are those of all brokers, past the proxies and through them.
func (p *peers) urls() (direct, through string) {
	var a, b []string
	for i := range p.brokers {
		a, b = append(a, "nats://"+p.brokers[i].addr), append(b, "nats://"+p.clients[i].Addr())
	}
	return strings.Join(a, ","), strings.Join(b, ",")
}

// cutOff separates a broker from the others; its clients still reach it.
func (p *peers) cutOff(i int) {
	for j := range p.brokers {
		if i != j {
			p.routes[i][j].Cut()
			p.routes[j][i].Cut()
		}
	}
}

func (p *peers) join(i int) {
	for j := range p.brokers {
		if i != j {
			p.routes[i][j].Restore()
			p.routes[j][i].Restore()
		}
	}
}

func (c *cluster) js() jetstream.JetStream {
	c.t.Helper()
	js, err := jetstream.New(c.conn)
	if err != nil {
		c.t.Fatal(err)
	}
	return js
}

// leader is the number of the broker that leads a stream; -1: none does.
func (c *cluster) leader(stream string) int {
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Second)
	defer cancel()
	s, err := c.js().Stream(ctx, stream)
	if err != nil || s.CachedInfo().Cluster == nil {
		return -1
	}
	var n int
	if _, err := fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &n); err != nil {
		return -1
	}
	return n - 1
}

// current waits until every stream has a leader and all its copies are up to date.
func (c *cluster) current() {
	c.t.Helper()
	js := c.js()
	poll(c.t, "all copies are up to date", func() bool {
		ctx, cancel := context.WithTimeout(c.t.Context(), 5*time.Second)
		defer cancel()
		found := 0
		list := js.ListStreams(ctx)
		for info := range list.Info() {
			found++
			if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != len(c.peers.brokers)-1 {
				return false
			}
			for _, r := range info.Cluster.Replicas {
				if !r.Current || r.Offline {
					return false
				}
			}
		}
		return list.Err() == nil && found >= 5
	})
}

// stepDown asks the leader of something to give the lead up, at a subject of the
// broker's API. It may have none just now.
func (c *cluster) stepDown(subject string) {
	_, err := c.conn.Request("$JS.API."+subject, nil, 5*time.Second)
	if err != nil && c.conn.IsConnected() && err != nats.ErrTimeout && err != nats.ErrNoResponders {
		c.t.Logf("step-down of %s: %v", subject, err)
	}
}

// newHalf returns a proxy that leads to the cluster's one broker, and what is to
// be said of it to pods that another may serve later.
func newHalf(c *cluster) (*proxy.Proxy, string) {
	c.t.Helper()
	return proxy.NATS(c.t, "nats://"+c.broker.addr)
}
