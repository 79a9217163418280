package top

import (
	"context"
	"net/http"
	"time"

	"fusillade/client"
)

// Snapshot is what the server said at one time.
type Snapshot struct {
	At       time.Time
	Operator bool                 // the key is an operator's; else Models and Daemons are unknown
	Models   []client.ModelStatus // as the server sorts them
	Daemons  []client.Daemon
	Batches  []client.Batch // the newest
}

const (
	// readTimeout bounds a look.
	readTimeout = 10 * time.Second
	// maxBatches and maxModels are shown, the newest and the busiest first.
	maxBatches = 100
	maxModels  = 1000
	// maxWaiting is of how many batches it is asked what holds them up.
	maxWaiting = 3
)

// Read asks the server for everything that is shown.
func Read(ctx context.Context, api *client.Client) (s Snapshot, err error) {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	s.Operator = true
	for m, err := range api.ModelStatuses(ctx) {
		if client.HasStatus(err, http.StatusForbidden) {
			s.Operator = false
			break
		}
		if err != nil {
			return s, err
		}
		if s.Models = append(s.Models, m); len(s.Models) == maxModels {
			break
		}
	}
	if s.Operator {
		for d, err := range api.Daemons(ctx, false) {
			if err != nil {
				return s, err
			}
			s.Daemons = append(s.Daemons, d)
		}
	}
	asked := 0
	for b, err := range api.Batches(ctx, maxBatches) {
		if err != nil {
			return s, err
		}
		if !b.Ended() && asked < maxWaiting {
			asked++
			whole, err := api.Batch(ctx, b.ID)
			if err != nil && !client.HasStatus(err, http.StatusNotFound) {
				return s, err
			}
			if err == nil {
				b = whole
			}
		}
		s.Batches = append(s.Batches, b)
	}
	s.At = time.Now()
	return s, nil
}

// inFlight is how many calls the daemons say are in flight.
func (s Snapshot) inFlight() (n int) {
	for _, d := range s.Daemons {
		n += d.InFlight
	}
	return n
}

// limit is what all models together may have in flight, of those that have work.
func (s Snapshot) limit() (n int) {
	for _, m := range s.Models {
		if m.Pending+m.Queued+m.Taken > 0 || m.Held > 0 {
			n += m.Limit
		}
	}
	return n
}

func (s Snapshot) pending() (n int64) {
	for _, m := range s.Models {
		n += m.Pending + m.Queued
	}
	return n
}

// rates are what changed between two snapshots, for each second.
type rates struct {
	ended, failed float64            // requests of all daemons
	batches       map[string]float64 // by id
}

func rate(before, after Snapshot) rates {
	r := rates{batches: make(map[string]float64)}
	seconds := after.At.Sub(before.At).Seconds()
	if before.At.IsZero() || seconds <= 0 {
		return r
	}
	// A daemon that came or went between the two counts for nothing.
	daemons := make(map[string]client.Daemon, len(before.Daemons))
	for _, d := range before.Daemons {
		daemons[d.ID] = d
	}
	for _, d := range after.Daemons {
		if old, ok := daemons[d.ID]; ok {
			r.ended += float64(max(d.Processed-old.Processed, 0)) / seconds
			r.failed += float64(max(d.Failed-old.Failed, 0)) / seconds
		}
	}
	batches := make(map[string]int64, len(before.Batches))
	for _, b := range before.Batches {
		batches[b.ID] = done(b)
	}
	for _, b := range after.Batches {
		if old, ok := batches[b.ID]; ok {
			r.batches[b.ID] = float64(max(done(b)-old, 0)) / seconds
		}
	}
	return r
}

func done(b client.Batch) int64 { return b.Counts.Completed + b.Counts.Failed }
