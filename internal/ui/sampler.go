package ui

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	sampleInterval = 10 * time.Second
	sampleCount    = int(time.Hour / sampleInterval)
	// paceTime is how far back a batch's pace looks, about.
	paceTime = time.Minute
	// maxOwners bounds whose samples are kept.
	maxOwners = 1000
)

// sample is what was done within an interval.
type sample struct {
	At                      time.Time // its end
	Completed, Unsuccessful float64   // a second
	InTokens, OutTokens     float64   // a second
}

// sampler looks every ten seconds how far the batches are, and keeps what was done
// in the last hour, of each owner and of all. It begins with the process: it is for
// plots and estimates, and nothing depends on it.
type sampler struct {
	store *postgres.Store
	log   *slog.Logger

	mu      sync.Mutex
	at      time.Time
	batches map[batch.ID]progress
	owners  map[string][]sample // the empty one: all
}

type progress struct {
	postgres.BatchProgress
	pace float64 // results a second; negative: not known yet
}

func newSampler(store *postgres.Store, log *slog.Logger) *sampler {
	return &sampler{store: store, log: log, owners: make(map[string][]sample)}
}

// run samples until ctx ends.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(sampleInterval)
	defer tick.Stop()
	for {
		if err := s.sample(ctx); err != nil && ctx.Err() == nil {
			s.log.Debug("sampling for the dashboard", "err", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (s *sampler) sample(ctx context.Context) error {
	s.mu.Lock()
	since := time.Since(s.at)
	s.mu.Unlock()
	// What finished since then, and once more what finished shortly before: its
	// last results may have been committed during that look.
	list, err := s.store.RecentProgress(ctx, min(since, time.Hour)+sampleInterval)
	if err != nil {
		return err
	}
	s.add(time.Now(), list)
	return nil
}

func (s *sampler) add(now time.Time, list []postgres.BatchProgress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, seconds := s.at.IsZero(), now.Sub(s.at).Seconds()
	done := map[string]*sample{"": {At: now}}
	known := make(map[batch.ID]progress, len(list))
	for _, b := range list {
		last, seen := s.batches[b.ID]
		p := progress{BatchProgress: b, pace: -1}
		if !seen {
			// It is new, or was rerun, or this process is new: then what it has was
			// done before.
			last.BatchProgress = b
			if !first && b.CreatedAt.After(s.at) {
				last.BatchProgress = postgres.BatchProgress{}
				seen, last.pace = true, -1
			}
		}
		if !first && seen {
			of := sample{
				Completed: positive(b.Completed-last.Completed) / seconds, Unsuccessful: positive(b.Unsuccessful-last.Unsuccessful) / seconds,
				InTokens: positive(b.InTokens-last.InTokens) / seconds, OutTokens: positive(b.OutToken-last.OutToken) / seconds,
			}
			p.pace = of.Completed + of.Unsuccessful
			if last.pace >= 0 {
				weight := min(seconds/paceTime.Seconds(), 1)
				p.pace = weight*p.pace + (1-weight)*last.pace
			}
			for _, owner := range []string{"", b.Owner} {
				d := done[owner]
				if d == nil {
					d = &sample{At: now}
					done[owner] = d
				}
				d.Completed, d.Unsuccessful = d.Completed+of.Completed, d.Unsuccessful+of.Unsuccessful
				d.InTokens, d.OutTokens = d.InTokens+of.InTokens, d.OutTokens+of.OutTokens
			}
		}
		known[b.ID] = p
	}
	s.at, s.batches = now, known
	if first {
		return
	}
	for owner, d := range done {
		if _, kept := s.owners[owner]; kept || len(s.owners) < maxOwners {
			s.append(owner, *d)
		}
	}
	for owner, samples := range s.owners {
		if done[owner] == nil {
			s.append(owner, sample{At: now})
		}
		if idle(samples) && owner != "" {
			delete(s.owners, owner)
		}
	}
}

func (s *sampler) append(owner string, d sample) {
	samples := append(s.owners[owner], d)
	if extra := len(samples) - sampleCount; extra > 0 {
		samples = append([]sample(nil), samples[extra:]...)
	}
	s.owners[owner] = samples
}

// idle reports whether nothing was done within the hour.
func idle(samples []sample) bool {
	for _, d := range samples {
		if d.Completed+d.Unsuccessful > 0 {
			return false
		}
	}
	return len(samples) >= sampleCount
}

func positive(n int64) float64 { return float64(max(n, 0)) }

// lastHour returns an owner's samples, oldest first; of all for an empty one.
func (s *sampler) lastHour(owner string) []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sample(nil), s.owners[owner]...)
}

// pace is how many results a second a batch has got of late. Before that is known it
// is the mean since the batch was created.
func (s *sampler) pace(b postgres.Batch, now time.Time) float64 {
	s.mu.Lock()
	p, known := s.batches[b.ID]
	s.mu.Unlock()
	if known && p.pace >= 0 {
		return p.pace
	}
	if age := now.Sub(b.CreatedAt).Seconds(); age > 0 {
		return float64(b.Counts.Done()) / age
	}
	return 0
}
