//go:build unix

package upstream

import (
	"net"
	"syscall"
	"testing"

	"fusillade/internal/notify"
	"fusillade/internal/testenv"
)

// What has arrived on an idle connection is seen before its reader is woken: by then
// the next request would have been sent on it, and be given that as its answer.
func TestArrivalIsSeenBeforeItIsRead(t *testing.T) {
	t.Parallel()
	for name, arrive := range map[string]func(peer net.Conn) error{
		"an answer too many": func(peer net.Conn) error {
			_, err := peer.Write([]byte("HTTP/1.1 200 OK\r\n"))
			return err
		},
		"its end": func(peer net.Conn) error { return peer.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = listener.Close() })
			raw, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = raw.Close() })
			peer, err := listener.Accept()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = peer.Close() })
			c := &conn{Conn: raw, waits: notify.New(), closing: make(chan struct{})}
			if c.raw, err = raw.(syscall.Conn).SyscallConn(); err != nil {
				t.Fatal(err)
			}
			c.reading.Store(true) // as a reader that is never woken
			if !c.quiet() {
				t.Fatal("a connection on which nothing arrived is not quiet")
			}
			if err := arrive(peer); err != nil {
				t.Fatal(err)
			}
			testenv.Eventually(t, "the connection is not quiet", func() bool { return !c.quiet() })
		})
	}
}
