package upstream

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// A connection to a name is used for minConnAge at least and twice that at
	// most; then the name is looked up again. With TLS, whose handshakes cost more,
	// it is for minTLSConnAge.
	minConnAge, minTLSConnAge = 10 * time.Second, 30 * time.Second
	// addressPause is how long an address is left out that could not be connected to.
	addressPause = 10 * time.Second
)

// dialer opens connections that are watched. Of the addresses that a name has it
// takes the one with the fewest connections, so that a replica which is added
// behind a name gets its share as connections end by their age.
type dialer struct {
	net    net.Dialer
	lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)
	age    func(address string) time.Duration // of a connection at most

	mu     sync.Mutex
	open   map[netip.AddrPort]int       // connections
	failed map[netip.AddrPort]time.Time // until when an address is left out
}

func newDialer(timeout time.Duration) *dialer {
	return &dialer{
		net: net.Dialer{Timeout: timeout}, lookup: net.DefaultResolver.LookupNetIP, age: connAge,
		open: make(map[netip.AddrPort]int), failed: make(map[netip.AddrPort]time.Time),
	}
}

// connAge is drawn, so that connections which began together end apart.
func connAge(address string) time.Duration {
	least := minConnAge
	if strings.HasSuffix(address, ":443") {
		least = minTLSConnAge
	}
	return least + rand.N(least)
}

// dial opens a connection to host:port.
func (d *dialer) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		raw, err := d.net.DialContext(ctx, network, address)
		return d.watch(raw, netip.AddrPort{}, time.Time{}, err)
	}
	until := time.Now().Add(d.age(address))
	if to := d.choose(d.addresses(ctx, network, host, port)); to.IsValid() {
		raw, err := d.net.DialContext(ctx, network, to.String())
		if err == nil || ctx.Err() != nil {
			return d.watch(raw, to, until, err)
		}
		d.leaveOut(to)
	}
	// One address, or the chosen one is away: both families are tried.
	raw, err := d.net.DialContext(ctx, network, address)
	return d.watch(raw, netip.AddrPort{}, until, err)
}

// addresses are those of a name, of the family that this machine prefers.
func (d *dialer) addresses(ctx context.Context, network, host, port string) (all []netip.AddrPort) {
	number, err := net.DefaultResolver.LookupPort(ctx, network, port)
	if err != nil {
		return nil
	}
	found, err := d.lookup(ctx, "ip", host)
	if err != nil {
		return nil // the dial says why
	}
	for _, a := range found {
		if a = a.Unmap(); a.Is4() == found[0].Unmap().Is4() {
			all = append(all, netip.AddrPortFrom(a, uint16(number)))
		}
	}
	return all
}

// choose returns the address with the fewest connections and counts one more;
// the zero value: there is no choice.
func (d *dialer) choose(addresses []netip.AddrPort) (best netip.AddrPort) {
	if len(addresses) < 2 {
		return best
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	for _, a := range addresses {
		if now.Before(d.failed[a]) {
			continue
		}
		delete(d.failed, a)
		if !best.IsValid() || d.open[a] < d.open[best] {
			best = a
		}
	}
	if best.IsValid() {
		d.open[best]++
	}
	return best
}

func (d *dialer) leaveOut(a netip.AddrPort) {
	d.closed(a)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failed[a] = time.Now().Add(addressPause)
}

func (d *dialer) closed(a netip.AddrPort) {
	if !a.IsValid() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.open[a]--; d.open[a] <= 0 {
		delete(d.open, a)
	}
}
