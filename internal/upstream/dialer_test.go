package upstream

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// A replica that is added behind a name is called soon, although the connections
// to the others go on; one that is away costs no attempt.
func TestNameGetsAnotherAddress(t *testing.T) {
	t.Parallel()
	var calls [2]atomic.Int64
	serve := func(i int, address string) net.Listener {
		listener, err := net.Listen("tcp", address)
		if err != nil {
			t.Skipf("this machine has no second loopback address with the same port free: %v", err)
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{ReadHeaderTimeout: ample, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			calls[i].Add(1)
			_, _ = w.Write([]byte(answerOf))
		})}}
		server.Start()
		t.Cleanup(server.Close)
		return listener
	}
	first := serve(0, "127.0.0.1:0")
	port := strconv.Itoa(first.Addr().(*net.TCPAddr).Port)
	var second atomic.Bool
	client := newClient(t, Config{})
	client.dialer.age = func(string) time.Duration { return 10 * time.Millisecond }
	client.dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
		all := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}
		if second.Load() {
			all = append(all, netip.MustParseAddr("127.0.0.2"))
		}
		return all, nil
	}
	call := func() {
		if got := client.Do(t.Context(), chatRequest("http://localhost:"+port)); got.Reason != "" {
			t.Errorf("%s: %s", got.Reason, got.Detail)
		}
	}
	stop := make(chan struct{})
	var busy sync.WaitGroup
	for range 4 {
		busy.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					call()
				}
			}
		})
	}
	testenv.Until(t, ample, "the first is called", func() bool { return calls[0].Load() > 20 })
	second.Store(true) // nobody listens there yet
	before := calls[0].Load()
	testenv.Until(t, ample, "the first is called although the second is away", func() bool { return calls[0].Load() > before+20 })
	serve(1, "127.0.0.2:"+port)
	client.dialer.mu.Lock()
	clear(client.dialer.failed) // as after addressPause
	client.dialer.mu.Unlock()
	testenv.Until(t, ample, "the second is called too", func() bool { return calls[1].Load() > 20 })
	close(stop)
	busy.Wait()
	client.Close()
	testenv.Until(t, ample, "no connection is counted any more", func() bool {
		client.dialer.mu.Lock()
		defer client.dialer.mu.Unlock()
		return len(client.dialer.open) == 0
	})
}

// Addresses are taken as they are: IPv6 in brackets too.
func TestLiteralAddresses(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "[::1]"} {
		listener, err := net.Listen("tcp", host+":0")
		if err != nil {
			t.Logf("%s: %v", host, err)
			continue
		}
		server := &httptest.Server{Listener: listener, Config: &http.Server{ReadHeaderTimeout: ample, Handler: answering(http.StatusOK, answerOf)}}
		server.Start()
		t.Cleanup(server.Close)
		client := newClient(t, Config{})
		client.dialer.lookup = func(context.Context, string, string) ([]netip.Addr, error) {
			t.Error("an address is looked up")
			return nil, net.ErrClosed
		}
		if got := client.Do(t.Context(), chatRequest(server.URL)); got.Reason != "" {
			t.Errorf("%s: %s: %s", host, got.Reason, got.Detail)
		}
	}
}
