package testenv

import (
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// ListenInSilence takes requests and answers none. It counts those whose first byte
// has come, and keeps nothing of a connection but its descriptor.
func ListenInSilence(t testing.TB) (url string, sent *atomic.Int64) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	sent = new(atomic.Int64)
	var conns []net.Conn
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			if _, err := io.ReadFull(conn, make([]byte, 1)); err == nil {
				sent.Add(1)
			}
		}
	}()
	t.Cleanup(func() {
		_ = listener.Close()
		<-accepted
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return "http://" + listener.Addr().String(), sent
}
