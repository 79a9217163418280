package ui

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"time"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
)

const (
	// overviewBatches is how many batches in progress the overview looks at, those
	// with the earliest deadline, and explainedBatches of how many it asks what holds
	// them up.
	overviewBatches  = 100
	explainedBatches = 20
	// failureBatches is of how many batches failures are grouped.
	failureBatches = 50
	// failureRows is how many ways of failing are listed.
	failureRows = 10
)

type overviewData struct {
	Rate, TokenRate    float64 // a second, in the last minute
	InFlight, Limit    int     // of operators: held slots and their limit
	Progress           batch.Counts
	Batches            int
	More               bool // there are more batches in progress than were looked at
	Failures           []failureRow
	Failed             int64
	OldestPending      time.Time // when the batch was created; zero: nothing is pending
	Holds              int
	Needs              []need
	Throughput, Tokens plot
	BrokerAway         bool
	Soonest            []batchRow
}

// need is something that needs a hand.
type need struct {
	Subject, Text, Advice string
	Link                  string
	Since, Until          time.Time // zero: not known
	Action, Label         string    // of its button; empty: there is none
	Fields                map[string]string
}

type failureRow struct {
	postgres.FailureCount
	Message string
}

// plot is what uPlot draws: times in Unix seconds, then one series of numbers after
// the other.
type plot struct {
	Series []string
	Data   [][]float64
}

func (u *UI) overview(r *http.Request, who api.Caller) (any, error) {
	ctx, now := r.Context(), time.Now()
	var d overviewData
	owner := scope(who)
	live, err := u.cfg.Store.SoonestBatches(ctx, owner, overviewBatches)
	if err != nil {
		return nil, err
	}
	d.Batches, d.More = len(live), len(live) == overviewBatches
	if who.Admin {
		models, err := u.cfg.Controller.Models(ctx)
		if err != nil {
			d.BrokerAway = true
			d.Needs = append(d.Needs, need{Subject: "Broker", Text: "NATS cannot be reached, so nothing is dispatched.", Advice: "Check that NATS is up, and FUSILLADE_NATS_URL."})
		}
		for _, m := range models {
			d.InFlight, d.Limit = d.InFlight+m.Held, d.Limit+m.Limit
			d.Holds += len(m.Holds)
			d.Needs = append(d.Needs, modelNeeds(m)...)
		}
		if alive, err := u.cfg.Store.OldestConsumer(ctx, time.Minute); err == nil && alive == 0 {
			d.Needs = append(d.Needs, need{Subject: "Consumers", Text: "No consumer is alive, so nothing is called.", Advice: "Start a consumer."})
		}
	}
	for i, b := range live {
		c := b.Counts
		d.Progress.Pending, d.Progress.InProgress = d.Progress.Pending+c.Pending, d.Progress.InProgress+c.InProgress
		d.Progress.Total, d.Progress.Completed, d.Progress.Failed = d.Progress.Total+c.Total, d.Progress.Completed+c.Completed, d.Progress.Failed+c.Failed
		if c.Pending > 0 && (d.OldestPending.IsZero() || b.CreatedAt.Before(d.OldestPending)) {
			d.OldestPending = b.CreatedAt
		}
		row := u.batchRow(b, now)
		if i < 5 {
			d.Soonest = append(d.Soonest, row)
		}
		if row.Late {
			d.Needs = append(d.Needs, lateNeed(row))
		}
		if !who.Admin && i < explainedBatches {
			if message, action := u.cfg.API.HeldUp(ctx, b); action != "" {
				d.Needs = append(d.Needs, need{Subject: b.ID.String(), Link: "/ui/batches/" + b.ID.String(), Text: message, Advice: action})
			}
		}
	}
	if err := u.failures(ctx, owner, live, &d); err != nil {
		return nil, err
	}
	samples, err := u.sampler.lastHour(ctx, owner)
	if err != nil {
		return nil, err
	}
	d.Throughput, d.Tokens = plots(samples)
	if latest := u.sampler.latest(owner); len(latest) > 0 {
		d.Rate, d.TokenRate = lastMinute(latest)
	} else { // this process is new, or the owner has done nothing of late
		d.Rate, d.TokenRate = lastMinute(samples[max(len(samples)-1, 0):])
	}
	return d, nil
}

// scope is whose batches someone sees: an operator everybody's.
func scope(who api.Caller) string {
	if who.Admin {
		return ""
	}
	return who.Owner
}

// failures groups what failed within the hour, of batches in progress and of the
// newest.
func (u *UI) failures(ctx context.Context, owner string, live []postgres.Batch, d *overviewData) error {
	newest, err := u.cfg.Store.FindBatches(ctx, postgres.BatchSearch{Owner: owner, Limit: failureBatches})
	if err != nil {
		return err
	}
	var ids []batch.ID
	seen := make(map[batch.ID]bool)
	for _, list := range [][]postgres.Batch{live, newest.Batches} {
		for _, b := range list {
			if b.Unsuccessful() > 0 && !seen[b.ID] && len(ids) < failureBatches {
				seen[b.ID] = true
				ids = append(ids, b.ID)
			}
		}
	}
	counts, err := u.cfg.Store.FailureCounts(ctx, ids, time.Hour)
	for i, f := range counts {
		if d.Failed += f.Count; i >= failureRows {
			continue
		}
		d.Failures = append(d.Failures, failureRow{f, f.Reason.Message(f.StatusCode)})
	}
	return err
}

func modelNeeds(m control.ModelStatus) (needs []need) {
	name := string(m.Model)
	model := need{Subject: name, Link: "/ui/models"}
	if m.Paused && m.Pending > 0 {
		n := model
		n.Text, n.Advice = fmt.Sprintf("The model is paused, and %s requests wait for it.", count(m.Pending)), "Resume it when its calls may begin again."
		n.Action, n.Label, n.Fields = "resume-model", "Resume", map[string]string{"id": name}
		needs = append(needs, n)
	}
	for _, h := range m.Holds {
		n := model
		n.Since, n.Until = h.Since, h.Until
		n.Text = fmt.Sprintf("Calls are held: the endpoint asked for a pause with status %d.", h.Status)
		if h.Cause != "" {
			info := h.Cause.Info()
			n.Text, n.Advice = "Calls are held: "+info.Text+".", info.Advice+"."
		}
		n.Action, n.Label, n.Fields = "lift-holds", "Lift the hold", map[string]string{"id": name}
		if h.Batch != (batch.ID{}) {
			n.Text += " It is the key of one batch."
			n.Fields["batch"] = h.Batch.String()
		}
		needs = append(needs, n)
	}
	return needs
}

func lateNeed(row batchRow) need {
	n := need{Subject: row.ID, Link: "/ui/batches/" + row.ID, Advice: "Raise the limits of its models, or give it more time by creating it anew."}
	n.Text = fmt.Sprintf("The batch does not move, and its deadline is %s.", until(row.ExpiresAt))
	if row.Left > 0 {
		n.Text = fmt.Sprintf("At its pace the batch needs %s more, but its deadline is %s.", duration(row.Left), until(row.ExpiresAt))
	}
	return n
}

func plots(samples []sample) (throughput, tokens plot) {
	throughput = plot{Series: []string{"completed/s", "failed/s"}, Data: make([][]float64, 3)}
	tokens = plot{Series: []string{"input tokens/s", "output tokens/s"}, Data: make([][]float64, 3)}
	for _, p := range []*plot{&throughput, &tokens} {
		for i := range p.Data {
			p.Data[i] = make([]float64, 0, len(samples))
		}
	}
	for _, s := range samples {
		for _, of := range []struct {
			plot *plot
			a, b float64
		}{{&throughput, s.Completed, s.Unsuccessful}, {&tokens, s.InTokens, s.OutTokens}} {
			for i, v := range []float64{float64(s.At.Unix()), of.a, of.b} {
				of.plot.Data[i] = append(of.plot.Data[i], math.Round(v*100)/100)
			}
		}
	}
	return throughput, tokens
}

// lastMinute is what was done a second, in the mean of the last minute.
func lastMinute(samples []sample) (requests, tokens float64) {
	last := samples[max(len(samples)-int(time.Minute/sampleInterval), 0):]
	for _, s := range last {
		requests += (s.Completed + s.Unsuccessful) / float64(len(last))
		tokens += (s.InTokens + s.OutTokens) / float64(len(last))
	}
	return requests, tokens
}
