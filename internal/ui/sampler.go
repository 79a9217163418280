package ui

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/history"
	"fusillade/internal/postgres"
)

const (
	sampleInterval = 10 * time.Second
	// sampleCount is how many are kept: until a minute of theirs is in the samples
	// of the leader (internal/history).
	sampleCount = int(2 * time.Minute / sampleInterval)
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
// in the last two minutes, of each owner and of all, and the pace of batches. It
// begins with the process: it is for plots and estimates, and nothing depends on it.
type sampler struct {
	store *postgres.Store
	log   *slog.Logger

	mu      sync.Mutex
	tracker history.Tracker
	paces   map[batch.ID]float64 // results a second; negative: not known yet
	owners  map[string][]sample  // the empty one: all
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
	now := time.Now()
	s.mu.Lock()
	window := s.tracker.Window(now)
	s.mu.Unlock()
	list, err := s.store.RecentProgress(ctx, window)
	if err != nil {
		return err
	}
	s.add(now, list)
	return nil
}

func (s *sampler) add(now time.Time, list []postgres.BatchProgress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first, seconds := s.tracker.At().IsZero(), now.Sub(s.tracker.At()).Seconds()
	done := map[string]*sample{"": {At: now}}
	paces := make(map[batch.ID]float64, len(list))
	for _, c := range s.tracker.Add(now, list) {
		paces[c.ID] = -1
		if !c.Known {
			continue
		}
		pace := float64(c.Done.Completed+c.Done.Unsuccessful) / seconds
		if last, known := s.paces[c.ID]; known && last >= 0 {
			weight := min(seconds/paceTime.Seconds(), 1)
			pace = weight*pace + (1-weight)*last
		}
		paces[c.ID] = pace
		for _, owner := range []string{"", c.Owner} {
			d := done[owner]
			if d == nil {
				d = &sample{At: now}
				done[owner] = d
			}
			d.add(c.Done, seconds)
		}
	}
	s.paces = paces
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

// add adds what was done within some seconds.
func (d *sample) add(done postgres.Done, seconds float64) {
	d.Completed, d.Unsuccessful = d.Completed+float64(done.Completed)/seconds, d.Unsuccessful+float64(done.Unsuccessful)/seconds
	d.InTokens, d.OutTokens = d.InTokens+float64(done.InTokens)/seconds, d.OutTokens+float64(done.OutTokens)/seconds
}

func (s *sampler) append(owner string, d sample) {
	samples := append(s.owners[owner], d)
	if extra := len(samples) - sampleCount; extra > 0 {
		samples = append([]sample(nil), samples[extra:]...)
	}
	s.owners[owner] = samples
}

// idle reports whether nothing was done in all that is kept.
func idle(samples []sample) bool {
	for _, d := range samples {
		if d.Completed+d.Unsuccessful > 0 {
			return false
		}
	}
	return len(samples) >= sampleCount
}

// latest returns an owner's samples, oldest first; of all for an empty one.
func (s *sampler) latest(owner string) []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sample(nil), s.owners[owner]...)
}

// lastHour returns what was done in each minute of the last hour, which every process
// knows, and of the minute in progress what this one has seen.
func (s *sampler) lastHour(ctx context.Context, owner string) ([]sample, error) {
	minutes, err := s.store.LastHour(ctx, owner)
	if postgres.LacksPrivilege(err) {
		err = nil // grants.sql of this release was not run yet
	}
	out := make([]sample, 0, len(minutes)+sampleCount)
	for _, m := range minutes {
		d := sample{At: m.At}
		d.add(m.Done, time.Minute.Seconds())
		out = append(out, d)
	}
	for _, d := range s.latest(owner) {
		if len(minutes) == 0 || d.At.After(minutes[len(minutes)-1].At.Add(sampleInterval)) {
			out = append(out, d)
		}
	}
	return out, err
}

// pace is how many results a second a batch has got of late. Before that is known it
// is the mean since the batch was created.
func (s *sampler) pace(b postgres.Batch, now time.Time) float64 {
	s.mu.Lock()
	pace, known := s.paces[b.ID]
	s.mu.Unlock()
	if known && pace >= 0 {
		return pace
	}
	if age := now.Sub(b.CreatedAt).Seconds(); age > 0 {
		return float64(b.Counts.Done()) / age
	}
	return 0
}
