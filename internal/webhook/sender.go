package webhook

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/backoff"
	"fusillade/internal/postgres"
	"fusillade/internal/seal"
	"fusillade/internal/tally"
	"fusillade/internal/telemetry"
)

const (
	defaultTimeout = 15 * time.Second
	// concurrency bounds the attempts at once, perOwner those of one owner's
	// endpoints and perWebhook those of one endpoint. The fewer places are free, the
	// fewer of them an owner may take: freePart of them, or one. A claim takes at
	// most half of what is free. So endpoints that hang hold up nobody else's
	// events, unless they are those of some thirty owners.
	concurrency, perOwner, perWebhook = 128, 8, 4
	freePart                          = 8
	// leaseMargin is how long an attempt may take to be recorded.
	leaseMargin  = 45 * time.Second
	pollInterval = time.Second
	// emptyInterval is how often it is looked whether there is an endpoint, while
	// there is none; existInterval the same while there are some and nothing is due.
	emptyInterval, existInterval = 5 * time.Second, time.Minute

	purgeInterval, purgeAge = time.Hour, 7 * 24 * time.Hour
	purgeRows               = 1000
)

// backoffs are the pauses after each attempt but the last, about a day in all.
var backoffs = []time.Duration{
	5 * time.Second, time.Minute, 5 * time.Minute, 30 * time.Minute, 2 * time.Hour, 5 * time.Hour, 8 * time.Hour, 8 * time.Hour,
}

// jitter is the largest part of a backoff that is added to it at random.
const jitter = 0.2

// Config says what a Sender works with. Store and Log are required.
type Config struct {
	Store *postgres.Store
	// Keyring decrypts the endpoints' secrets; nil: nothing can be signed.
	Keyring *seal.Keyring
	// AllowPrivate lets events go to private, loopback and link-local addresses.
	AllowPrivate bool
	// Timeout bounds an attempt; 0: 15 s.
	Timeout time.Duration
	// Metrics is where metrics are registered; nil: nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Sender delivers events.
type Sender struct {
	cfg      Config
	client   *http.Client
	outcomes *prometheus.CounterVec
	often    *tally.Log // of deliveries
}

// New returns a sender that is yet to run.
func New(cfg Config) (*Sender, error) {
	if cfg.Store == nil || cfg.Log == nil {
		return nil, errors.New("webhook: Store and Log are required")
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	return &Sender{cfg: cfg, client: newClient(cfg.AllowPrivate), often: tally.New(cfg.Log, 0), outcomes: telemetry.Counters(cfg.Metrics, "webhook_deliveries_total",
		"Attempts to deliver a webhook: delivered, retried later, or given_up.", "outcome")}, nil
}

// Run delivers until ctx ends, and returns when all attempts have. Any number
// may run at once.
func (s *Sender) Run(ctx context.Context) {
	counting, stopCounting := context.WithCancel(context.WithoutCancel(ctx))
	var counted sync.WaitGroup
	counted.Go(func() { s.often.Run(counting) })
	defer counted.Wait()
	defer stopCounting()
	inFlight, busy, owners := 0, make(map[[16]byte]int), make(map[string]int)
	ended := make(chan postgres.WebhookDelivery, concurrency)
	end := func(d postgres.WebhookDelivery) {
		inFlight--
		if busy[d.Endpoint()]--; busy[d.Endpoint()] == 0 {
			delete(busy, d.Endpoint())
		}
		if owners[d.Webhook.Owner]--; owners[d.Webhook.Owner] == 0 {
			delete(owners, d.Webhook.Owner)
		}
	}
	defer func() {
		for inFlight > 0 {
			end(<-ended)
		}
	}()
	var purged, asked time.Time
	exist := true // endpoints, as far as is known
	for ctx.Err() == nil {
		if time.Since(purged) > purgeInterval {
			s.purge(ctx)
			purged = time.Now()
		}
		more, pause := false, pollInterval
		if !exist {
			exist = s.exist(ctx)
		}
		if !exist {
			pause = emptyInterval
		} else if free := concurrency - inFlight; free > 0 {
			due, err := s.cfg.Store.ClaimDeliveries(ctx, places(free, busy, owners), s.cfg.Timeout+leaseMargin)
			if err != nil && ctx.Err() == nil {
				s.often.Add(slog.LevelWarn, "due webhook deliveries could not be claimed", nil, "err", err)
			}
			for _, d := range due {
				inFlight++
				busy[d.Endpoint()]++
				owners[d.Webhook.Owner]++
				go func() { // joined by ended
					s.deliver(ctx, d)
					ended <- d
				}()
			}
			more = len(due) > 0
			if inFlight == 0 && err == nil && time.Since(asked) > existInterval {
				asked, exist = time.Now(), s.exist(ctx)
			}
		}
		var wait <-chan time.Time
		if !more || inFlight == concurrency {
			wait = time.After(backoff.Jitter(pause))
		} else {
			wait = time.After(0)
		}
		select {
		case <-ctx.Done():
		case <-wait:
		case d := <-ended:
			end(d)
		}
	}
}

// exist reports whether there are endpoints, and true if that cannot be read.
func (s *Sender) exist(ctx context.Context) bool {
	exist, err := s.cfg.Store.HasWebhooks(ctx)
	return exist || err != nil
}

// places are those that are free beside the attempts being made, by endpoint and
// by owner.
func places(free int, busy map[[16]byte]int, owners map[string]int) postgres.DeliveryPlaces {
	most := min(max(free/freePart, 1), perOwner)
	p := postgres.DeliveryPlaces{All: (free + 1) / 2, Endpoint: perWebhook, Owner: most, Owners: make(map[string]int, len(owners))}
	for endpoint, n := range busy {
		if n >= perWebhook {
			p.Busy = append(p.Busy, endpoint)
		}
	}
	for owner, n := range owners {
		p.Owners[owner] = max(most-n, 0)
	}
	return p
}

// deliver makes an attempt and records its result. A crash in between
// leaves a lease, after which the event is delivered again.
func (s *Sender) deliver(ctx context.Context, d postgres.WebhookDelivery) {
	status, err := s.Send(ctx, d)
	if err != nil && ctx.Err() != nil {
		return // cut off by a stop: its lease runs out
	}
	o := postgres.DeliveryResult{Delivered: err == nil, Status: status}
	outcome := "delivered"
	if err != nil {
		o.Error, o.Retry = err.Error(), pauseAfter(d.Attempt)
		if outcome = "retried"; o.Retry == 0 {
			outcome = "given_up"
		}
		s.often.Add(slog.LevelWarn, "a webhook was not delivered", []any{"webhook_id", d.Webhook.ID, "outcome", outcome, "err", err},
			"event_id", eventID(d), "batch_id", d.Batch, "attempt", d.Attempt, "retry_in", o.Retry)
	}
	recording, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseMargin/3)
	defer cancel()
	if err := s.cfg.Store.RecordDelivery(recording, d, o); err != nil {
		s.often.Add(slog.LevelWarn, "a webhook delivery could not be recorded; it is made again", nil, "event_id", eventID(d), "err", err)
		return
	}
	s.outcomes.WithLabelValues(outcome).Inc()
}

// pauseAfter is the pause after an attempt, from 1; 0: it was the last.
func pauseAfter(attempt int) time.Duration {
	if attempt > len(backoffs) {
		return 0
	}
	pause := backoffs[attempt-1]
	return pause + time.Duration(float64(pause)*jitter*rand.Float64())
}

func (s *Sender) purge(ctx context.Context) {
	for n := purgeRows; n == purgeRows && ctx.Err() == nil; {
		var err error
		if n, err = s.cfg.Store.PurgeDeliveries(ctx, purgeAge, purgeRows); err != nil && ctx.Err() == nil {
			s.cfg.Log.Warn("old webhook deliveries could not be purged", "err", err)
		}
	}
}
