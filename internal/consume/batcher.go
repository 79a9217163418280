package consume

import (
	"context"
	"sync"
	"time"
)

// batcher gathers items and hands them to flush, several hundred at a time
// under load and one at a time when idle. A flush never blocks the gathering
// of the next.
type batcher[T any] struct {
	in      chan T
	max     int           // items per flush
	linger  time.Duration // how long a flush waits for more, while items are frequent
	workers int           // flushes at once
	flush   func([]T)

	// weigh is an item's size in bytes; nil: nothing. A flush is full once its
	// items weigh maxBytes together.
	weigh    func(T) int
	maxBytes int
}

func newBatcher[T any](max, workers int, linger time.Duration, flush func([]T)) *batcher[T] {
	return &batcher[T]{in: make(chan T, 2*max), max: max, linger: linger, workers: workers, flush: flush}
}

// tryAdd queues an item unless the queue is full.
func (b *batcher[T]) tryAdd(item T) bool {
	select {
	case b.in <- item:
		return true
	default:
		return false
	}
}

// add queues an item. It waits while the queue is full, and returns ctx's
// error if that ends first.
func (b *batcher[T]) add(ctx context.Context, item T) error {
	if b.tryAdd(item) {
		return nil
	}
	select {
	case b.in <- item:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// close says that nothing more will be added; run then ends when all is flushed.
func (b *batcher[T]) close() { close(b.in) }

// run gathers and flushes until close, and returns when all is flushed.
func (b *batcher[T]) run() {
	var flushes sync.WaitGroup
	defer flushes.Wait()
	free := make(chan struct{}, b.workers)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last time.Time // when the last batch was gathered
	for first := range b.in {
		items, bytes := append(make([]T, 0, 16), first), b.bytes(first)
		// After a quiet while the first item goes at once: it is the start of a
		// batch or a lone request, and somebody waits for it.
		if time.Since(last) < quiet {
			timer.Reset(b.linger)
			items, bytes = b.gather(items, bytes, timer.C)
		}
		items = b.gatherUntil(items, bytes, free)
		last = time.Now()
		flushes.Go(func() {
			b.flush(items)
			<-free
		})
	}
}

// quiet is the time without an item after which one goes at once.
const quiet = 32 * time.Millisecond

// gather adds items until the time is up, or there are enough.
func (b *batcher[T]) gather(items []T, bytes int, up <-chan time.Time) ([]T, int) {
	for !b.isFull(items, bytes) {
		select {
		case item, ok := <-b.in:
			if !ok {
				return items, bytes
			}
			items, bytes = append(items, item), bytes+b.bytes(item)
		case <-up:
			return items, bytes
		}
	}
	return items, bytes
}

func (b *batcher[T]) isFull(items []T, bytes int) bool {
	return len(items) >= b.max || b.weigh != nil && bytes >= b.maxBytes
}

func (b *batcher[T]) bytes(item T) int {
	if b.weigh == nil {
		return 0
	}
	return b.weigh(item)
}

// gatherUntil takes what is queued, and goes on while every worker is busy.
func (b *batcher[T]) gatherUntil(items []T, bytes int, free chan<- struct{}) []T {
	in := b.in
	for {
		if b.isFull(items, bytes) {
			in = nil
		}
		select {
		case item, ok := <-in:
			if !ok {
				in = nil
				continue
			}
			items, bytes = append(items, item), bytes+b.bytes(item)
			continue
		default:
		}
		select {
		case item, ok := <-in:
			if !ok {
				in = nil
				continue
			}
			items, bytes = append(items, item), bytes+b.bytes(item)
		case free <- struct{}{}:
			return items
		}
	}
}
