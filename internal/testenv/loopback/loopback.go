// Package loopback finds addresses for servers that a test stops and starts
// again.
package loopback

import (
	"fmt"
	"math/rand/v2"
	"net"
	"testing"
)

// The system gives ports of its own choice from 32768 on (Linux; others begin
// higher), to every connection and to every listener on port 0.
const (
	firstPort = 16384
	lastPort  = 32767
)

// Addr returns an address of this machine on which nobody listens. Unlike one
// that the system chose, nobody is given it while the server is away.
func Addr(t testing.TB) string {
	t.Helper()
	var last error
	for range 50 {
		addr := fmt.Sprintf("127.0.0.1:%d", firstPort+rand.IntN(lastPort-firstPort+1))
		l, err := net.Listen("tcp", addr)
		if err == nil {
			err = l.Close()
		}
		if err == nil {
			return addr
		}
		last = err
	}
	t.Fatalf("no port is free: %v", last)
	return ""
}
