//go:build !race

// The race detector makes frames larger.

package consume

import (
	"context"
	"net/http"
	"runtime"
	"sync"
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
	url, sent := testenv.ListenInSilence(t)
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
