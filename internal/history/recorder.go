package history

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"fusillade/internal/backoff"
	"fusillade/internal/postgres"
)

const (
	// interval is how often the leader looks, and cleanInterval how often it removes
	// what is old.
	interval, cleanInterval = 15 * time.Second, 10 * time.Minute
	// maxOwners bounds the samples of a minute: of more owners those who did most
	// have one.
	maxOwners = 1000
	timeout   = 30 * time.Second
)

// store is what a Recorder needs of postgres.Store.
type store interface {
	RecentProgress(ctx context.Context, since time.Duration) ([]postgres.BatchProgress, error)
	RecordDone(ctx context.Context, within time.Duration, done map[string]postgres.Done) error
	RemoveSamples(ctx context.Context) error
}

// Recorder records what is done. It is for the leader alone.
type Recorder struct {
	Store store
	Log   *slog.Logger
}

// Run records until ctx ends.
func (r *Recorder) Run(ctx context.Context) {
	var tracker Tracker
	var cleaned time.Time
	for ctx.Err() == nil {
		r.report(ctx, "what was done could not be recorded", r.record(ctx, &tracker))
		if time.Since(cleaned) > cleanInterval {
			cleaned = time.Now()
			r.report(ctx, "old samples could not be removed", r.clean(ctx))
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Jitter(interval)):
		}
	}
}

// report tells what costs nobody but who looks at plots.
func (r *Recorder) report(ctx context.Context, what string, err error) {
	if err != nil && ctx.Err() == nil {
		r.Log.Debug(what, "err", err)
	}
}

func (r *Recorder) clean(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return r.Store.RemoveSamples(ctx)
}

// record looks, and adds what was done since to the samples. A crash in between, or
// an error, leaves it out.
func (r *Recorder) record(ctx context.Context, t *Tracker) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	now := time.Now()
	list, err := r.Store.RecentProgress(ctx, t.Window(now))
	if err != nil {
		return err
	}
	within := now.Sub(t.At())
	done := doneBy(t.Add(now, list))
	if len(done) == 0 {
		return nil
	}
	return r.Store.RecordDone(ctx, within, done)
}

// doneBy adds up what each owner has done, and all together as the empty one.
func doneBy(changes []Change) map[string]postgres.Done {
	done := make(map[string]postgres.Done)
	for _, c := range changes {
		if c.Done == (postgres.Done{}) {
			continue
		}
		for _, owner := range []string{"", c.Owner} {
			d := done[owner]
			d.Add(c.Done)
			done[owner] = d
		}
	}
	if len(done) > maxOwners {
		most := slices.SortedFunc(maps.Keys(done), func(a, b string) int {
			x, y := done[a], done[b]
			return cmp.Or(cmp.Compare(y.Completed+y.Unsuccessful, x.Completed+x.Unsuccessful), cmp.Compare(a, b))
		})
		for _, owner := range most[maxOwners:] {
			delete(done, owner)
		}
	}
	return done
}
