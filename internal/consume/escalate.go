package consume

import (
	"fusillade/internal/postgres"
	"fusillade/internal/upstream"
	"fusillade/streams"
)

// escalates reports whether the request, which was just started, should go to
// another model by now: so much time has passed in the stream or in a backoff.
// A request that escalated once stays where it is.
func (l *lane) escalates(s postgres.Start) bool {
	e := l.account.Escalation()
	return e != nil && s.Template.Model == l.account.Model() && s.Remaining < e.Threshold
}

// escalate returns started requests to pending without a call, to be claimed
// anew for the model that they go to. A crash before the ack leaves a message
// of a claim that was given up, which the next start refuses. Where the unclaim
// fails they are given back as they are, and judged again by their next start;
// if it was done all the same that write is fenced, and their leases run out.
func (c *Consumer) escalate(tasks []*task) {
	if len(tasks) == 0 {
		return
	}
	requests := make([]postgres.ClaimedRequest, len(tasks))
	for i, t := range tasks {
		requests[i] = postgres.ClaimedRequest{ID: t.delivery.ID, Claim: t.delivery.Claim, Delivery: t.delivery.Number}
	}
	_, err := c.cfg.Store.ReleaseClaims(c.writing, requests, 0)
	if err != nil {
		c.cfg.Log.Warn("returning requests that escalate", "requests", len(tasks), "err", err)
	}
	for _, t := range tasks {
		t.lane.unstarting()
		if err != nil {
			c.giveBack(t, busyDelay)
			continue
		}
		c.hands.drop(t)
		c.report(t.msg.Ack())
	}
	if err == nil {
		c.report(c.cfg.Conn.Publish(streams.HintWork, nil))
	}
}

// body is what is sent: that of the file, with the model that is called if
// the request has escalated to it. All else of it stays as it is.
func (t *task) body() ([]byte, error) {
	given, model := t.start.Template, t.lane.account.Model()
	if given.Model == model {
		return given.Body, nil
	}
	return upstream.WithModel(given.Body, model)
}
