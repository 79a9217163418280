package proxy

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that sends every line back.
func echo(t *testing.T) (addr string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}()
		}
	}()
	return listener.Addr().String()
}

// client is one connection through a proxy.
type client struct {
	net.Conn
	lines *bufio.Reader
}

func dial(t *testing.T, p *Proxy) *client {
	t.Helper()
	conn, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &client{conn, bufio.NewReader(conn)}
}

// ask sends a line and waits for its echo.
func (c *client) ask(patience time.Duration) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(c, "hello"); err != nil {
		return err
	}
	_, err := c.lines.ReadString('\n')
	return err
}

func TestProxy(t *testing.T) {
	t.Parallel()
	p := New(t, "tcp", echo(t))
	c := dial(t, p)
	must := func(what string, c *client) {
		t.Helper()
		if err := c.ask(testenv.Patience); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	must("undisturbed", c)

	p.Cut()
	if err := c.ask(testenv.Patience); err == nil {
		t.Error("a connection outlives Cut")
	}
	if err := dial(t, p).ask(testenv.Patience); err == nil {
		t.Error("a connection is passed on after Cut")
	}
	p.Restore()
	c = dial(t, p)
	must("after Cut and Restore", c)

	const delay = 20 * time.Millisecond
	p.Slow(delay)
	began := time.Now()
	must("slow", c)
	if took := time.Since(began); took < 2*delay {
		t.Errorf("an answer took %v, want at least the delay of both directions", took)
	}
	p.Restore()

	p.Stall()
	stalled := make(chan error, 1)
	go func() { stalled <- c.ask(testenv.Patience) }()
	select {
	case err := <-stalled:
		t.Errorf("a stalled connection answers: %v", err)
	case <-time.After(5 * delay):
	}
	p.Restore()
	if err := <-stalled; err != nil {
		t.Errorf("after Stall and Restore: %v", err)
	}

	p.Drop(rand.New(rand.NewPCG(1, 1)), 0)
	must("none dropped", c)
	p.Drop(rand.New(rand.NewPCG(1, 1)), 1)
	if err := c.ask(testenv.Patience); err == nil {
		t.Error("a connection outlives Drop of all")
	}
	must("after Drop", dial(t, p))
}

func TestPostgres(t *testing.T) {
	t.Parallel()
	for name, given := range map[string]string{
		"port":   "postgres://u:p%40@127.0.0.1:5499/db?sslmode=disable",
		"socket": "postgres://u:p%40@/db?host=/tmp/none&port=5499&sslmode=disable",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, got := Postgres(t, given)
			if want := "postgres://u:p%40@" + p.Addr() + "/db?sslmode=disable"; got != want {
				t.Errorf("URL %s, want %s", got, want)
			}
		})
	}
}
