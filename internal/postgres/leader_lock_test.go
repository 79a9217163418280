package postgres

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// term is a call of Lead, made again until it leads or fails.
type term struct {
	began chan context.Context // what f got
	end   chan error           // f returns what is sent
	done  chan error           // what Lead returned
	led   bool                 // once done
}

func lead(ctx context.Context, s *Store) *term {
	r := &term{began: make(chan context.Context, 1), end: make(chan error), done: make(chan error, 1)}
	go func() {
		for {
			led, err := s.Lead(ctx, func(ctx context.Context) error {
				r.began <- ctx
				return <-r.end
			})
			if led || err != nil {
				r.led = led
				r.done <- err
				return
			}
		}
	}()
	return r
}

func wait[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(time.Minute):
		t.Fatal("it did not happen within a minute")
	}
	return v
}

// wantRefused fails unless another leads.
func wantRefused(t *testing.T, s *Store) {
	t.Helper()
	led, err := s.Lead(t.Context(), func(context.Context) error {
		t.Error("two lead")
		return nil
	})
	if led || err != nil {
		t.Errorf("led: %t, %v", led, err)
	}
}

func TestOneLeads(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	a, b := openStore(t, url), openStore(t, url)
	first := lead(t.Context(), a)
	wait(t, first.began)
	wantRefused(t, b)
	wantRefused(t, a) // nor twice in one process
	want := errors.New("f's own")
	first.end <- want
	if err := wait(t, first.done); !errors.Is(err, want) || !first.led {
		t.Errorf("led: %t, %v", first.led, err)
	}
	// The connection that held the lock is closed when Lead returns.
	second := lead(t.Context(), b)
	wait(t, second.began)
	wantRefused(t, a)
	close(second.end)
	if err := wait(t, second.done); err != nil || !second.led {
		t.Errorf("led: %t, %v", second.led, err)
	}
}

func TestLostConnectionEndsTheTerm(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	a, b := openStore(t, url), openStore(t, url)
	first := lead(t.Context(), a)
	ctx := wait(t, first.began)
	n := sqlExec(t, b, `
SELECT pg_terminate_backend(pid, 10000) FROM pg_locks
 WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`)
	if n != 1 {
		t.Fatalf("%d connections hold the lock", n)
	}
	wait(t, ctx.Done())
	// The other takes over at once, be the first done or not.
	second := lead(t.Context(), b)
	wait(t, second.began)
	close(first.end)
	if err := wait(t, first.done); err == nil || !first.led {
		t.Errorf("led: %t, %v, want an error", first.led, err)
	}
	wantRefused(t, a)
	close(second.end)
	if err := wait(t, second.done); err != nil {
		t.Error(err)
	}
}

func TestTermEndsWithItsContext(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	a, b := openStore(t, url), openStore(t, url)
	ctx, cancel := context.WithCancel(t.Context())
	first := lead(ctx, a)
	inner := wait(t, first.began)
	cancel()
	wait(t, inner.Done())
	close(first.end)
	_ = wait(t, first.done)
	second := lead(t.Context(), b)
	wait(t, second.began)
	close(second.end)
	_ = wait(t, second.done)
	if led, err := a.Lead(ctx, nil); led || !errors.Is(err, context.Canceled) {
		t.Errorf("led: %t, %v", led, err)
	}
}

// frozenConn sends nothing while its process is frozen.
type frozenConn struct {
	net.Conn
	awake *sync.RWMutex
}

func (c frozenConn) Write(p []byte) (int, error) {
	c.awake.RLock()
	defer c.awake.RUnlock()
	return c.Conn.Write(p)
}

// stoppedConn sends nothing any more from the first write on that follows the lock.
type stoppedConn struct {
	net.Conn
	asked   bool          // for the lock
	stopped chan struct{} // closed then
	ended   chan struct{} // by the test
}

func (c *stoppedConn) Write(p []byte) (int, error) {
	if c.asked && (bytes.Contains(p, []byte("idle_session_timeout")) || bytes.Contains(p, []byte("pg_logical_emit_message"))) {
		close(c.stopped)
		<-c.ended
	}
	c.asked = c.asked || bytes.Contains(p, []byte("pg_try_advisory_lock"))
	return c.Conn.Write(p)
}

// So does one that is frozen as soon as it has the lock.
func TestFrozenCandidateLosesTheLock(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	a, b := openStore(t, url), openStore(t, url)
	stopped, ended := make(chan struct{}), make(chan struct{})
	dial := a.direct.DialFunc
	a.direct.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return &stoppedConn{Conn: conn, stopped: stopped, ended: ended}, err
	}
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := a.Lead(ctx, func(context.Context) error { return errors.New("it leads") })
		first <- err
	}()
	wait(t, stopped)
	second := lead(t.Context(), b)
	wait(t, second.began)
	cancel()
	close(ended)
	if err := wait(t, first); err == nil || strings.Contains(err.Error(), "it leads") {
		t.Errorf("the other one: %v", err)
	}
	close(second.end)
	_ = wait(t, second.done)
}

// A leader that is frozen, with its connection open, loses the lead.
func TestFrozenLeaderLosesTheLead(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	a, b := openStore(t, url), openStore(t, url)
	var awake sync.RWMutex
	dial := a.direct.DialFunc
	a.direct.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return frozenConn{conn, &awake}, err
	}
	first := lead(t.Context(), a)
	ctx := wait(t, first.began)
	awake.Lock()
	second := lead(t.Context(), b)
	wait(t, second.began)
	awake.Unlock()
	wait(t, ctx.Done())
	close(first.end)
	if err := wait(t, first.done); err == nil || !first.led {
		t.Errorf("led: %t, %v, want an error", first.led, err)
	}
	close(second.end)
	_ = wait(t, second.done)
}
