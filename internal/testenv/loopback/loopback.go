// Package loopback gives addresses to servers that a test starts later, or stops
// and starts again.
package loopback

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

// The system gives ports of its own choice from 32768 on (Linux; others begin
// higher), to every connection and to every listener on port 0.
const (
	firstPort = 16384
	ports     = 16384
	// block is how many ports a process takes at once. It listens on the first of
	// them until it ends, which keeps the others from every other process.
	block = 64
)

// Addr returns an address of this machine on which nobody listens, and which no
// other call returns, in any process, as long as this process lives. Unlike one
// that the system chose, nobody is given it while the server is away.
func Addr(t testing.TB) string {
	t.Helper()
	addr, err := own.next()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// own are the addresses of this process.
var own addresses

type addresses struct {
	mu   sync.Mutex
	kept []net.Listener // on the first port of each block
	port int            // the last that was returned
	left int            // in its block
}

func (a *addresses) next() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		if a.left == 0 {
			if err := a.take(); err != nil {
				return "", err
			}
		}
		a.port++
		a.left--
		// A program that knows nothing of blocks may be there.
		if l, err := listen(a.port); err == nil && l.Close() == nil {
			return address(a.port), nil
		}
	}
}

// take begins a block that no process has.
func (a *addresses) take() error {
	var errs []error
	for _, i := range rand.Perm(ports / block) {
		first := firstPort + i*block
		l, err := listen(first)
		if err == nil {
			a.kept = append(a.kept, l)
			a.port, a.left = first, block-1
			return nil
		}
		if errs = append(errs, err); len(errs) > 3 {
			errs = errs[1:]
		}
	}
	return fmt.Errorf("no ports are free: %w", errors.Join(errs...))
}

func listen(port int) (net.Listener, error) { return net.Listen("tcp", address(port)) }

func address(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
