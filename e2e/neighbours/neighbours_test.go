//go:build neighbours && unix

package neighbours

import (
	"context"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// runs is of how many a time is the median.
const runs = 5

// compare measures the quiet owner alone, lets the neighbour begin, and measures
// again.
func compare(t *testing.T, what string, c *cluster, begin func(neighbour *owner)) {
	t.Helper()
	quiet, neighbour := c.owner("quiet"), c.owner("neighbour")
	quiet.once() // the first one makes the model known
	alone := median(quiet)
	begin(neighbour)
	beside := median(quiet)
	bound := 2*alone + time.Second
	t.Logf("| %s | %.1f s | %.1f s | %.1f s |", what, alone.Seconds(), beside.Seconds(), bound.Seconds())
	if beside > bound {
		t.Errorf("%s: a batch of %d took %v, alone %v: want at most %v", what, small, beside, alone, bound)
	}
}

func median(o *owner) time.Duration {
	o.t.Helper()
	var took []time.Duration
	for range runs {
		took = append(took, o.once())
	}
	slices.Sort(took)
	o.t.Logf("%v", took)
	return took[runs/2]
}

// awaitCalls waits until the neighbour has a hold on the endpoint.
func (c *cluster) awaitCalls(n int64) {
	c.t.Helper()
	testenv.Eventually(c.t, "the neighbour's calls are made", func() bool { return c.endpoint.calls.Load() >= n })
}

func TestHuge(t *testing.T) {
	c := newCluster(t)
	compare(t, "a file of 50,000 requests", c, func(n *owner) {
		n.must(50_000, model)
		c.awaitCalls(2 * limit)
	})
}

func TestSlow(t *testing.T) {
	c := newCluster(t)
	c.endpoint.answer(func(w http.ResponseWriter, r *http.Request) { completed(w, r, 10*latency) })
	compare(t, "calls that take ten times as long", c, func(n *owner) {
		n.must(5_000, model)
		c.awaitCalls(2 * limit)
	})
}

func TestFailing(t *testing.T) {
	c := newCluster(t)
	c.endpoint.answer(failing(http.StatusInternalServerError, ""))
	compare(t, "every call fails with 500", c, func(n *owner) {
		n.must(5_000, model)
		c.awaitCalls(20 * limit)
	})
}

func TestLongBackoffs(t *testing.T) {
	c := newCluster(t, "FUSILLADE_BACKOFF_MS=60000", "FUSILLADE_MAX_BACKOFF_MS=600000")
	c.endpoint.answer(failing(http.StatusInternalServerError, ""))
	compare(t, "every call fails, with backoffs of a minute and more", c, func(n *owner) {
		n.must(5_000, model)
		c.awaitCalls(20 * limit)
	})
}

func TestThrottled(t *testing.T) {
	c := newCluster(t)
	c.endpoint.answer(failing(http.StatusTooManyRequests, "600"))
	compare(t, "its key is throttled: 429 with Retry-After of ten minutes", c, func(n *owner) {
		file, err := n.upload(t.Context(), 5_000, model)
		if err == nil {
			_, err = n.begin(t.Context(), file, "sk-throttled")
		}
		if err != nil {
			t.Fatal(err)
		}
		c.awaitCalls(1)
	})
}

func TestManyNamed(t *testing.T) {
	c := newCluster(t)
	models := make([]string, 1000)
	for i := range models {
		models[i] = fmt.Sprintf("model-%d", i)
	}
	compare(t, "1,000 model names", c, func(n *owner) {
		n.must(20_000, models...)
		c.awaitCalls(2 * limit)
	})
}

// loop runs something again and again until the end of the test.
func loop(t *testing.T, again func(ctx context.Context)) {
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	var over sync.WaitGroup
	over.Go(func() {
		for ctx.Err() == nil {
			again(ctx)
			select {
			case <-time.After(20 * time.Millisecond): // what is refused at once
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() {
		stop()
		over.Wait()
	})
}

func TestCancellingAndRerunning(t *testing.T) {
	c := newCluster(t)
	compare(t, "cancels and reruns 5,000 requests in a loop", c, func(n *owner) {
		b := n.must(5_000, model)
		c.awaitCalls(2 * limit)
		loop(t, func(ctx context.Context) {
			// The one is refused while the other is under way.
			_ = n.call(ctx, http.MethodPost, "/batches/"+b.ID+"/cancel", nil, nil, nil)
			_ = n.call(ctx, http.MethodPost, "/batches/"+b.ID+"/rerun", strings.NewReader(`{"statuses":["canceled"]}`), nil, nil)
		})
	})
}

// dripping is the body of an upload that sends a byte a second.
type dripping struct{ ctx context.Context }

// Read implements io.Reader.
func (d dripping) Read(p []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		p[0] = ' '
		return 1, nil
	case <-d.ctx.Done():
		return 0, d.ctx.Err()
	}
}

func TestUploadingSlowly(t *testing.T) {
	c := newCluster(t)
	compare(t, "20 uploads at a byte a second", c, func(n *owner) {
		for range 20 {
			loop(t, func(ctx context.Context) {
				var head strings.Builder
				form := multipart.NewWriter(&head)
				_ = form.WriteField("purpose", "batch")
				_, _ = form.CreateFormFile("file", "requests.jsonl")
				body := io.MultiReader(strings.NewReader(head.String()), dripping{ctx})
				_ = n.call(ctx, http.MethodPost, "/files", body, http.Header{"Content-Type": {form.FormDataContentType()}}, nil)
			})
		}
		// Their heads are there, and their places taken.
		select {
		case <-time.After(2 * time.Second):
		case <-t.Context().Done():
		}
	})
}
