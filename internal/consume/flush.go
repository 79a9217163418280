package consume

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/postgres"
)

const minRetryPause, maxRetryPause = 50 * time.Millisecond, 2 * time.Second

// flusher writes items to Postgres, many in one statement, until each is written
// or set apart. What Postgres refuses holds up nothing but itself: while it is
// unavailable, or refuses whatever it is given, the whole flush is tried again
// after a backoff; else what it refuses is found by splitting.
type flusher[T any] struct {
	// write writes the items and acts on the answer. After nil, what it returns is
	// to be written again. After an error it has acted on nothing. Its context is
	// its own: of a write that is cut off nobody knows whether it was committed.
	write func(items []T) (again []T, err error)
	// apart takes an item that Postgres refuses by itself.
	apart func(item T, class postgres.Class, err error)
	// stopped takes the items that were not written when the context ended.
	stopped func(items []T)
	failing *incident
	metrics func(class postgres.Class)
}

func (f *flusher[T]) flush(ctx context.Context, items []T) {
	pause := backoff.New(minRetryPause, maxRetryPause)
	for ctx.Err() == nil && len(items) > 0 {
		again, err := f.write(items)
		if err == nil {
			f.failing.end()
			items = again
			pause.Reset()
			continue
		}
		if ctx.Err() != nil {
			break
		}
		class := f.failed(err, len(items))
		switch {
		case class == postgres.Unavailable:
		case len(items) == 1:
			f.apart(items[0], class, err)
			return
		case class == postgres.Content || !f.refusesAll(ctx, &items):
			f.flush(ctx, items[:len(items)/2])
			f.flush(ctx, items[len(items)/2:])
			return
		}
		_ = pause.Wait(ctx)
	}
	if len(items) > 0 {
		f.stopped(items)
	}
}

// refusesAll tells a cause that has nothing to do with the items, such as a
// migration or a grant, from one item that Postgres refuses: it tries two of
// them alone. Without it every item of every flush would be tried alone while
// such a cause lasts. They are drawn anew each time, so that items which are
// refused for their own sake do not hold the others for long.
func (f *flusher[T]) refusesAll(ctx context.Context, items *[]T) bool {
	const few = 4 // of which each may as well be tried
	for range 2 {
		all := *items
		if len(all) <= few || ctx.Err() != nil {
			return false
		}
		last := len(all) - 1
		i := rand.N(len(all))
		all[i], all[last] = all[last], all[i]
		again, err := f.write(all[last:])
		if err == nil {
			*items = append(all[:last], again...)
			return false
		}
		if f.failed(err, 1) == postgres.Unavailable {
			return true
		}
	}
	return true
}

func (f *flusher[T]) failed(err error, items int) postgres.Class {
	class := postgres.Classify(err)
	f.metrics(class)
	f.failing.failed(class, items, err)
	return class
}

// logAgain is how often an incident that lasts is logged.
const logAgain = time.Minute

// incident is a time during which something fails again and again. It is logged
// when it begins, once a minute, and when it is over. It is safe for concurrent
// use.
type incident struct {
	what string // fails; for the log
	log  *slog.Logger

	mu       sync.Mutex
	since    time.Time // zero: nothing fails
	logged   time.Time
	failures int
}

func (i *incident) failed(class postgres.Class, items int, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	if i.since.IsZero() {
		i.since = now
	}
	i.failures++
	if now.Sub(i.logged) < logAgain && i.failures > 1 {
		return
	}
	i.logged = now
	i.log.Warn(i.what+" fails and is tried again", "requests", items, "class", class.String(), "failures", i.failures, "err", err)
}

func (i *incident) end() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.since.IsZero() {
		return
	}
	i.log.Info(i.what+" succeeds again", "failures", i.failures, "after", time.Since(i.since).Round(time.Millisecond).String())
	i.since, i.failures = time.Time{}, 0
}
