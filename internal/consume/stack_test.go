//go:build !race

// The race detector makes frames larger.

package consume

import (
	"context"
	"io"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/testenv"
	"fusillade/internal/upstream"
)

// maxStacksOfACall is what the three goroutines of a call that waits have as stacks at
// most: 4 kB of its own, and two of net/http, with what is lost between them. Of the
// next size it would be 8 kB.
const maxStacksOfACall = 15 << 10

func TestStacksOfACallThatWaits(t *testing.T) { //nolint:paralleltest // stacks of others would count
	const calls = 2000
	url, sent := listenInSilence(t)
	client, err := upstream.New(upstream.Config{MaxIdleConnsPerHost: calls, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	doing, stopDoing := context.WithCancel(t.Context())
	c := &Consumer{doing: doing, cfg: Config{
		Caller:  client,
		Resolve: func(batch.Model) (upstream.Target, bool) { return upstream.Target{BaseURL: url}, true },
	}}
	p := &pool{c: c, account: new(slots.Account), metrics: newMetrics(nil).model("m")}
	template := batch.Template{Method: http.MethodPost, Path: "/v1/chat/completions", Body: []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`)}
	runtime.GC()
	before := stacks()
	var waiting sync.WaitGroup
	for range calls {
		waiting.Go(func() { c.call(&task{pool: p, start: postgres.Start{Template: template}, msg: new(nats.Msg)}) })
	}
	testenv.Eventually(t, "all calls wait", func() bool { return sent.Load() == calls })
	runtime.GC() // stacks shrink
	runtime.GC()
	each := (stacks() - before) / calls
	t.Logf("%d bytes a call", each)
	if each > maxStacksOfACall {
		t.Errorf("the stacks of a call that waits are %d bytes, want at most %d", each, maxStacksOfACall)
	}
	stopDoing()
	waiting.Wait()
}

func stacks() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.StackInuse)
}

// listenInSilence takes requests and answers none. It counts those of which something
// has come.
func listenInSilence(t *testing.T) (url string, sent *atomic.Int64) {
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
