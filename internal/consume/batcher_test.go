package consume

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// recorder keeps what a batcher flushes, and when.
type recorder struct {
	mu      sync.Mutex
	began   time.Time
	flushed [][]int
	at      []time.Duration
	running int
	peak    int
	blocked chan struct{} // a flush waits for it; nil: it does not
}

func (r *recorder) flush(items []int) {
	r.mu.Lock()
	r.flushed = append(r.flushed, slices.Clone(items))
	r.at = append(r.at, time.Since(r.began))
	r.running++
	r.peak = max(r.peak, r.running)
	blocked := r.blocked
	r.mu.Unlock()
	if blocked != nil {
		<-blocked
	}
	r.mu.Lock()
	r.running--
	r.mu.Unlock()
}

func (r *recorder) want(t *testing.T, flushed [][]int, at []time.Duration) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if diff := cmp.Diff(flushed, r.flushed); diff != "" {
		t.Errorf("flushed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(at, r.at); diff != "" {
		t.Errorf("flushed at (-want +got):\n%s", diff)
	}
}

func TestBatcherFlushesEachItemOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		most := rapid.IntRange(1, 9).Draw(t, "max")
		workers := rapid.IntRange(1, 3).Draw(t, "workers")
		adders := rapid.IntRange(1, 4).Draw(t, "adders")
		each := rapid.IntRange(0, 60).Draw(t, "items of each")
		linger := rapid.SampledFrom([]time.Duration{0, 50 * time.Microsecond}).Draw(t, "linger")
		r := new(recorder)
		b := newBatcher(most, workers, linger, r.flush)
		var running, adding sync.WaitGroup
		running.Go(b.run)
		for a := range adders {
			adding.Go(func() {
				for i := range each {
					if err := b.add(context.Background(), a*each+i); err != nil {
						t.Error(err)
					}
				}
			})
		}
		adding.Wait()
		b.close()
		running.Wait()

		var got []int
		for _, items := range r.flushed {
			if len(items) == 0 || len(items) > most {
				t.Errorf("%d items in a flush, at most %d are allowed", len(items), most)
			}
			got = append(got, items...)
		}
		slices.Sort(got)
		for i, item := range got {
			if item != i {
				t.Fatalf("item %d is missing or came twice", i)
			}
		}
		if len(got) != adders*each {
			t.Errorf("%d items were flushed, %d added", len(got), adders*each)
		}
		if r.peak > workers {
			t.Errorf("%d flushes at once, at most %d are allowed", r.peak, workers)
		}
		if r.running != 0 {
			t.Errorf("%d flushes run on after the end", r.running)
		}
	})
}

// inBubble runs a batcher of ints in fake time, until the test closes it.
func inBubble(t *testing.T, most, workers int, test func(t *testing.T, b *batcher[int], r *recorder)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{began: time.Now()}
		b := newBatcher(most, workers, 10*time.Millisecond, r.flush)
		var running sync.WaitGroup
		running.Go(b.run)
		defer running.Wait()
		test(t, b, r)
	})
}

func addAll(t *testing.T, b *batcher[int], items ...int) {
	t.Helper()
	for _, item := range items {
		if err := b.add(t.Context(), item); err != nil {
			t.Fatal(err)
		}
	}
}

// after lets fake time pass, and everything happen that is due until then.
func after(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

func TestBatcherLingers(t *testing.T) {
	inBubble(t, 10, 2, func(t *testing.T, b *batcher[int], r *recorder) {
		addAll(t, b, 1)
		synctest.Wait() // a lone item goes at once
		after(time.Millisecond)
		addAll(t, b, 2)
		after(4 * time.Millisecond)
		addAll(t, b, 3)
		after(5 * time.Millisecond)
		addAll(t, b, 4)
		after(100 * time.Millisecond)
		addAll(t, b, 5) // after a quiet while, as the first
		synctest.Wait()
		b.close()
		synctest.Wait()
		const ms = time.Millisecond
		r.want(t, [][]int{{1}, {2, 3, 4}, {5}}, []time.Duration{0, 11 * ms, 110 * ms})
	})
}

func TestBatcherDoesNotLingerWhenFull(t *testing.T) {
	inBubble(t, 3, 2, func(t *testing.T, b *batcher[int], r *recorder) {
		addAll(t, b, 1)
		synctest.Wait()
		addAll(t, b, 2, 3, 4)
		synctest.Wait()
		b.close()
		r.want(t, [][]int{{1}, {2, 3, 4}}, []time.Duration{0, 0})
	})
}

func TestBatcherCloseDrains(t *testing.T) {
	inBubble(t, 10, 1, func(t *testing.T, b *batcher[int], r *recorder) {
		addAll(t, b, 1)
		synctest.Wait()
		addAll(t, b, 2, 3)
		b.close() // which ends the linger
		synctest.Wait()
		r.want(t, [][]int{{1}, {2, 3}}, []time.Duration{0, 0})
	})
}

// While every worker is busy items are gathered up to the most in a flush, and
// queued beyond; when the queue is full too, add waits.
func TestBatcherGathersDuringFlush(t *testing.T) {
	inBubble(t, 4, 1, func(t *testing.T, b *batcher[int], r *recorder) {
		r.blocked = make(chan struct{})
		addAll(t, b, 1)
		synctest.Wait()
		addAll(t, b, 2, 3, 4, 5)
		synctest.Wait()
		addAll(t, b, 6, 7, 8, 9, 10, 11, 12, 13)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.add(ctx, 14); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("add to a full queue: %v, want it to wait until its context ends", err)
		}
		close(r.blocked)
		synctest.Wait()
		after(time.Second)
		b.close()
		synctest.Wait()
		if diff := cmp.Diff([][]int{{1}, {2, 3, 4, 5}, {6, 7, 8, 9}, {10, 11, 12, 13}}, r.flushed); diff != "" {
			t.Errorf("flushed (-want +got):\n%s", diff)
		}
	})
}

// A flush is full with as many bytes as it may carry, and one item more.
func TestBatcherBoundsBytes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &recorder{began: time.Now()}
		b := newBatcher(100, 1, time.Second, r.flush)
		b.weigh, b.maxBytes = func(n int) int { return n }, 10
		var running sync.WaitGroup
		running.Go(b.run)
		for _, n := range []int{50, 4, 4, 4, 4, 9, 10, 0, 3} {
			if err := b.add(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		b.close()
		running.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		if diff := cmp.Diff([][]int{{50}, {4, 4, 4}, {4, 9}, {10}, {0, 3}}, r.flushed); diff != "" {
			t.Errorf("flushed (-want +got):\n%s", diff)
		}
	})
}
