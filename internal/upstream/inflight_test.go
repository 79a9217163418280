package upstream

import (
	"context"
	"net/http"
	"runtime"
	"sync"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// maxBytesOfACall is what a call that waits for its answer keeps in memory at most,
// beside its body: its goroutine and the two of its connection, with 10 kB of stacks,
// and 2 kB of buffers. Tens of thousands of calls may wait at once. The rest is room
// for stacks that happen to be larger.
const maxBytesOfACall = 30 << 10

func TestMemoryOfACallThatWaits(t *testing.T) { //nolint:paralleltest // what others allocate would count
	const calls = 2000
	url, sent := testenv.ListenInSilence(t)
	c, err := New(Config{MaxIdleConnsPerHost: calls, Timeout: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithCancel(t.Context())
	body := []byte(`{"model":"m","messages":[{"role":"user","content":"hello"}]}`)
	before := memoryInUse()
	var waiting sync.WaitGroup
	for range calls {
		waiting.Go(func() {
			c.Do(ctx, Request{Method: http.MethodPost, BaseURL: url, Path: "/v1/chat/completions", Body: body})
		})
	}
	testenv.Eventually(t, "all calls wait", func() bool { return sent.Load() == calls })
	each := (memoryInUse() - before) / calls
	t.Logf("%d bytes a call", each)
	if each > maxBytesOfACall {
		t.Errorf("a call that waits takes %d bytes, want at most %d", each, maxBytesOfACall)
	}
	cancel()
	waiting.Wait()
}

// memoryInUse is what the heap and the stacks hold after a collection.
func memoryInUse() int64 {
	runtime.GC()
	runtime.GC() // what the first one only marked, and pools
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
