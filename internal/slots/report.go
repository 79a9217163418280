package slots

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"fusillade/internal/batch"
	"fusillade/streams"
)

// A report is a NATS request. Where nobody answers, the decider is gone: the first
// daemon that finds out enters itself, and goes on from what the entry says. So a
// decider that dies leaves a hole of a report or two, and what is lost with it is
// what was measured since its last decision. Reports that are lost make the calls in
// flight look fewer, with which no limit is raised.

const (
	// urgentInterval is the least time between reports of congestion.
	urgentInterval = 20 * time.Millisecond
	reportTimeout  = 500 * time.Millisecond
	// missed is how many reports in a row go unanswered before the decider is taken
	// for gone. That nobody listens is known at once.
	missed = 3
	// maxReportBytes bounds a message of reports; one of a model has some 700 bytes.
	maxReportBytes = 512 << 10
	// maxInbox bounds the reports that wait for decideAll: far more than come in the
	// time between two of its rounds.
	maxInbox = 100_000
)

// report is what a daemon tells of one model.
type report struct {
	Model batch.Model `json:"model"`
	news
}

// report tells the outcomes of calls to those who decide.
func (k *Keeper) report(ctx context.Context) {
	d := &k.decisions
	me := k.cfg.Daemon.String()
	now := time.Now()
	messages := make(map[string][]report)
	for key, a := range k.autos() {
		n := a.meter.take(now)
		if !n.busy() {
			continue
		}
		decider := a.decider()
		switch {
		case k.leaving() && (decider == me || decider == ""):
		case decider == "" || decider != me && d.silent[decider] >= missed:
			k.takeOver(ctx, key, decider)
		case decider == me:
			d.mu.Lock()
			d.inbox = append(d.inbox, report{a.model, n})
			d.mu.Unlock()
		default:
			messages[decider] = append(messages[decider], report{a.model, n})
		}
	}
	var sent sync.WaitGroup
	var mu sync.Mutex
	for decider, reports := range messages {
		sent.Go(func() {
			err := k.send(ctx, decider, reports)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				delete(d.silent, decider)
			case errors.Is(err, nats.ErrNoResponders):
				d.silent[decider] = missed
			default:
				d.silent[decider]++
			}
		})
	}
	sent.Wait()
	if len(d.silent) > 1000 { // daemons that are long gone
		clear(d.silent)
	}
}

func (k *Keeper) send(ctx context.Context, decider string, reports []report) error {
	id, err := batch.ParseDaemonID(decider)
	if err != nil {
		return nats.ErrNoResponders // nobody can be called so
	}
	raw, err := json.Marshal(reports)
	if err != nil || len(raw) > maxReportBytes {
		return fmt.Errorf("reports of %d models have %d bytes: %w", len(reports), len(raw), err)
	}
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	_, err = k.cfg.Conn.RequestWithContext(ctx, streams.HintOutcomes(id), raw)
	return err
}

// takeOver enters this daemon as the decider, in the place of one that is gone.
func (k *Keeper) takeOver(ctx context.Context, key, gone string) {
	opCtx, cancel := context.WithTimeout(ctx, opTimeout)
	defer cancel()
	err := change(opCtx, k.slots, key, func(e Entry) (Entry, bool) {
		if e.Auto == nil || e.Auto.Decider != gone {
			return e, false // somebody was faster
		}
		a := *e.Auto
		a.Decider = k.cfg.Daemon.String()
		e.Auto = &a
		return e, true
	})
	if err != nil && ctx.Err() == nil && !errors.Is(err, batch.ErrNotFound) {
		k.cfg.Log.Warn("the decider of a limit could not be replaced", "key", key, "err", err)
	}
}

// heard takes reports of another daemon.
func (k *Keeper) heard(msg *nats.Msg) {
	var reports []report
	if err := json.Unmarshal(msg.Data, &reports); err != nil {
		k.dropped.Inc()
		k.cfg.Log.Error("a report of calls is malformed", "err", err)
		return
	}
	d := &k.decisions
	urgent := false
	d.mu.Lock()
	for _, r := range reports {
		urgent = urgent || r.Congested > 0
		if len(d.inbox) < maxInbox {
			d.inbox = append(d.inbox, r)
		}
	}
	d.mu.Unlock()
	d.begins.Notify()
	_ = msg.Respond(nil) // else the other one finds out by its timeout
	if urgent {
		d.urgent.Notify()
	}
}

// autos are the accounts whose limit is automatic.
func (k *Keeper) autos() map[string]*Account {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found map[string]*Account
	for key, a := range k.accounts {
		if a.meter.on.Load() {
			if found == nil {
				found = make(map[string]*Account)
			}
			found[key] = a
		}
	}
	return found
}

// decider is the daemon that decides about the limit.
func (a *Account) decider() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.entry.Auto == nil {
		return ""
	}
	return a.entry.Auto.Decider
}
