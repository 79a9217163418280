package embedded

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/testenv/loopback"
)

func startNATS(t *testing.T, cfg NATSConfig) *NATS {
	t.Helper()
	n, err := StartNATS(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopNATS(t, n) })
	return n
}

func stopNATS(t *testing.T, n *NATS) {
	t.Helper()
	if err := n.Stop(); err != nil {
		t.Error(err)
	}
}

func connectNATS(t *testing.T, n *NATS, opts ...nats.Option) jetstream.JetStream {
	t.Helper()
	closed := make(chan struct{})
	conn, err := n.Connect(append(opts, nats.ClosedHandler(func(*nats.Conn) { close(closed) }))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		<-closed
	})
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func TestNATSKeepsItsStreams(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]string{"in process": "", "with a port": "127.0.0.1:0"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			cfg := NATSConfig{DataDir: t.TempDir(), Listen: listen}
			n := startNATS(t, cfg)
			if (n.URL() == "") != (listen == "") {
				t.Errorf("URL() = %q with Listen %q", n.URL(), listen)
			}
			js := connectNATS(t, n)
			if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
				t.Fatal(err)
			}
			if _, err := js.Publish(ctx, "s.1", nil); err != nil {
				t.Fatal(err)
			}

			if _, err := StartNATS(cfg); !errors.Is(err, ErrInUse) {
				t.Errorf("second start = %v, want ErrInUse", err)
			}
			stopNATS(t, n)
			if err := n.Restart(); err == nil {
				t.Error("Restart after Stop is accepted")
			}
			n = startNATS(t, cfg)
			wantMessages(ctx, t, connectNATS(t, n), 1)
		})
	}
}

func TestNATSRestart(t *testing.T) {
	t.Parallel()
	for name, listen := range map[string]string{"in process": "", "with a port": loopback.Addr(t)} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := testContext(t)
			n := startNATS(t, NATSConfig{DataDir: t.TempDir(), Listen: listen})
			reconnected := make(chan struct{}, 1)
			js := connectNATS(t, n, nats.MaxReconnects(-1), nats.ReconnectHandler(func(*nats.Conn) { reconnected <- struct{}{} }))
			if _, err := js.CreateStream(ctx, jetstream.StreamConfig{Name: "S", Subjects: []string{"s.>"}}); err != nil {
				t.Fatal(err)
			}
			url := n.URL()
			if err := n.Restart(); err != nil {
				t.Fatal(err)
			}
			if n.URL() != url {
				t.Errorf("URL() = %q after a restart, before %q", n.URL(), url)
			}
			select {
			case <-reconnected:
			case <-ctx.Done():
				t.Fatal("the client does not reconnect")
			}
			wantMessages(ctx, t, js, 0)
		})
	}
}

func wantMessages(ctx context.Context, t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	stream, err := js.Stream(ctx, "S")
	if err != nil {
		t.Fatal(err)
	}
	if got := stream.CachedInfo().State.Msgs; got != want {
		t.Errorf("stream holds %d messages, want %d", got, want)
	}
}

func TestNATSRefuses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	taken := l.Addr().String()
	for name, tt := range map[string]struct {
		cfg  NATSConfig
		want string
	}{
		"no directory":  {NATSConfig{}, "DataDir is not set"},
		"port in use":   {NATSConfig{DataDir: t.TempDir(), Listen: taken}, "cannot listen on " + taken},
		"no port":       {NATSConfig{DataDir: t.TempDir(), Listen: "localhost"}, "want host:port"},
		"port too high": {NATSConfig{DataDir: t.TempDir(), Listen: ":65536"}, "want a port from 0 to 65535"},
		"a file":        {NATSConfig{DataDir: "/dev/null"}, "is a file, not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := StartNATS(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("StartNATS = %v, want an error with %q", err, tt.want)
			}
			// What failed must not keep its directory.
			if tt.cfg.DataDir != "" && tt.cfg.Listen != "" {
				startNATS(t, NATSConfig{DataDir: tt.cfg.DataDir})
			}
		})
	}
}

func TestNATSLogIsQuiet(t *testing.T) {
	t.Parallel()
	var loud atomic.Int64
	n := startNATS(t, NATSConfig{DataDir: t.TempDir(), Log: slog.New(levelCounter{Handler: slog.DiscardHandler, n: &loud})})
	stopNATS(t, n)
	if got := loud.Load(); got != 0 {
		t.Errorf("a start and a stop log %d lines above Debug", got)
	}
}

// levelCounter counts records above Debug.
type levelCounter struct {
	slog.Handler
	n *atomic.Int64
}

func (levelCounter) Enabled(context.Context, slog.Level) bool { return true }

func (h levelCounter) Handle(_ context.Context, r slog.Record) error {
	if r.Level > slog.LevelDebug {
		h.n.Add(1)
	}
	return nil
}

func (h levelCounter) WithAttrs([]slog.Attr) slog.Handler { return h }
