package upstream

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"time"
)

// streamed makes a call that asks for a streamed answer. Some endpoints refuse to be
// asked for the usage: they are asked again without, and not any more then.
func (c *Client) streamed(ctx context.Context, request *Request, body *editedBody, out *Outcome) {
	clock := &streamClock{comes: request.Streams}
	ctx, cancel := clock.watch(ctx, &c.cfg)
	defer cancel()
	ask := &body.ask
	key := request.BaseURL + " " + ask.model
	exchange := func(withUsage bool) {
		request.Body, request.withoutUsage = body.splice(withUsage), ask.usage && !withUsage
		c.exchange(ctx, request, ask, clock, out)
	}
	asks := ask.usage && !c.refusals.has(key)
	exchange(asks)
	if asks && refusesUsage(&out.Response) {
		*out = Outcome{}
		exchange(false)
		if mayAnswer(out.Response.StatusCode) {
			c.refusals.add(key)
		}
	}
	out.FirstToken = clock.firstToken()
}

// refusesUsage holds for an answer that complains of "stream_options".
func refusesUsage(r *Response) bool {
	return (r.StatusCode == http.StatusBadRequest || r.StatusCode == http.StatusUnprocessableEntity) &&
		(bytes.Contains(r.Body, []byte("stream_options")) || bytes.Contains(r.Body, []byte("include_usage")))
}

const (
	// maxUsageRefusals bounds what is remembered of endpoints and models, and
	// usageRefusalAge how long: they are upgraded now and then.
	maxUsageRefusals = 1024
	usageRefusalAge  = time.Hour
)

// usageRefusals are the endpoints and models that refuse to be asked for the usage.
type usageRefusals struct {
	mu    sync.Mutex
	since map[string]time.Time
}

func (u *usageRefusals) has(key string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return time.Since(u.since[key]) < usageRefusalAge
}

func (u *usageRefusals) add(key string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.since == nil || len(u.since) >= maxUsageRefusals {
		u.since = make(map[string]time.Time) // they will be found out again
	}
	u.since[key] = time.Now()
}
