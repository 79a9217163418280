package testenv

import (
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/embedded"
	"fusillade/internal/testenv/loopback"
)

// NATS returns a server with JetStream, and a port on 127.0.0.1, that is the
// test's own and stops when the test is done.
func NATS(t testing.TB) *embedded.NATS {
	t.Helper()
	n, err := embedded.StartNATS(embedded.NATSConfig{
		DataDir: t.TempDir(),
		Listen:  loopback.Addr(t), // a restart needs it again
		Log:     logger(t, slog.LevelWarn),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Stop(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// Connect returns a connection to n that outlives restarts and is closed when
// the test is done. opts win over that.
func Connect(t testing.TB, n *embedded.NATS, opts ...nats.Option) *nats.Conn {
	t.Helper()
	base := []nats.Option{nats.Timeout(Patience), nats.MaxReconnects(-1), nats.ReconnectWait(20 * time.Millisecond)}
	conn, err := n.Connect(append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}
