package loopback

import (
	"net"
	"testing"
)

// Two processes ask in turn, and use nothing of what they get: no address is
// given twice, and at each a server can be started, stopped and started again.
func TestNobodyElseGetsAnAddress(t *testing.T) {
	t.Parallel()
	given := make(map[string]bool)
	var processes [2]addresses
	t.Cleanup(func() {
		for i := range processes {
			for _, l := range processes[i].kept {
				_ = l.Close()
			}
		}
	})
	for range 2 * block { // more than one block each
		for i := range processes {
			addr, err := processes[i].next()
			if err != nil {
				t.Fatal(err)
			}
			if given[addr] {
				t.Fatalf("%s was given twice", addr)
			}
			given[addr] = true
		}
	}
	for addr := range given {
		for range 2 {
			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
