package consume

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"fusillade/internal/batch"
	manner "fusillade/internal/endpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
)

// streamOn has calls ask for a streamed answer.
func streamOn(cfg *Config) {
	resolve := cfg.Resolve
	cfg.Resolve = func(m batch.Model) (upstream.Target, bool) {
		to, ok := resolve(m)
		to.Options = &manner.Options{Stream: manner.On}
		return to, ok
	}
}

const (
	streamPart = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"."},"finish_reason":null}]}` + "\n\n"
	streamEnd  = `data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":2}}` + "\n\ndata: [DONE]\n\n"
)

// flow sends parts of an answer until it is told to end it, or the client is gone.
func flow(w http.ResponseWriter, r *http.Request, ends func() bool) {
	pause := time.NewTicker(5 * time.Millisecond)
	defer pause.Stop()
	for !ends() {
		_, _ = io.WriteString(w, streamPart)
		_ = http.NewResponseController(w).Flush()
		select {
		case <-pause.C:
		case <-r.Context().Done():
			return
		}
	}
	_, _ = io.WriteString(w, streamEnd)
}

// A streamed answer that keeps coming is not cut off at the processing timeout.
func TestStreamOutlivesTheProcessingTimeout(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	store := &renewingStore{store: c.Store}
	c.start(streamOn, func(cfg *Config) { cfg.Store, cfg.ProcessingTimeout = store, 3*time.Second })
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, _ call) {
		// Six renewals are twice the timeout.
		flow(w, r, func() bool { return store.renewed.Load() >= 6 })
	})
	got, calls := c.AwaitEnd(c.Begin(lines(1, testModel)))["r0"], c.endpoint.all()
	if got.State != batch.Completed || got.Attempts != 1 || len(calls) != 1 {
		t.Errorf("the request is %s after %d attempts and %d calls", got.State, got.Attempts, len(calls))
	}
}

// One that Postgres cannot be told of is cut off then, before another consumer
// may take it over.
func TestStreamThatCannotBeRenewed(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(streamOn, func(cfg *Config) {
		cfg.Store, cfg.ProcessingTimeout = &renewingStore{store: c.Store, err: errAway}, 500*time.Millisecond
	})
	c.endpoint.set(func(w http.ResponseWriter, r *http.Request, c call) {
		flow(w, r, func() bool { return c.nth > 0 })
	})
	got, calls := c.AwaitEnd(c.Begin(lines(1, testModel)))["r0"], c.endpoint.all()
	if got.State != batch.Completed || got.Attempts != 2 || len(calls) != 2 {
		t.Errorf("the request is %s after %d attempts and %d calls, want completed by the second", got.State, got.Attempts, len(calls))
	}
}

// renewingStore counts the renewals of starts, or fails them.
type renewingStore struct {
	store
	renewed atomic.Int32
	err     error
}

func (s *renewingStore) RenewStarts(ctx context.Context, d batch.DaemonID, deliveries []postgres.Delivery) (map[batch.RequestID]bool, error) {
	if s.err != nil {
		return nil, s.err
	}
	renewed, err := s.store.RenewStarts(ctx, d, deliveries)
	s.renewed.Add(int32(len(renewed)))
	return renewed, err
}
