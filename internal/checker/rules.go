package checker

import (
	"fmt"

	"fusillade/internal/batch"
)

// checkCursors: a cursor per model of the file, whose counts follow from the
// lines up to its last one.
func (t *tables) checkCursors(p *problems) {
	totals, upto, beyond := make(map[string]int64), make(map[string]int64), make(map[string]int64)
	rows := t.rows()
	isLine := make(map[string]bool)
	for _, l := range t.lines {
		totals[l.model]++
		c := t.cursors[l.model]
		if l.line <= c.last {
			upto[l.model]++
		} else if rows[l.line] {
			beyond[l.model]++
		}
		if l.line == c.last {
			isLine[l.model] = true
		}
	}
	for model := range totals {
		if _, found := t.cursors[model]; !found {
			p.addf("model %q has lines and no cursor", model)
		}
	}
	for model, c := range t.cursors {
		name := fmt.Sprintf("cursor of model %q: ", model)
		if c.file != t.file {
			p.addf("%sit is of another file than the batch", name)
		}
		p.want(name+"total", c.total, totals[model])
		p.want(name+"claimed", c.claimed, upto[model]+beyond[model])
		if beyond[model] > c.claimedOutOfOrder {
			p.addf("%s%d lines beyond it have rows, of %d claimed out of order", name, beyond[model], c.claimedOutOfOrder)
		}
		if c.last != 0 && !isLine[model] {
			p.addf("%slast_line %d is no line of its model", name, c.last)
		}
		if rest := c.total - c.claimed; c.skipped != 0 && c.skipped != rest {
			p.addf("%sskipped is %d, want none or the rest, %d", name, c.skipped, rest)
		}
		if open := c.claimed+c.skipped < c.total; c.open != open {
			p.addf("%sopen is %t, want %t", name, c.open, open)
		}
	}
}

// checkLines: a line up to its cursor is live or has ended, and is not both; a
// line beyond it is neither, unless the cursor counts lines claimed out of
// order; and what is live or has ended is a line.
func (t *tables) checkLines(p *problems) {
	live, ended := make(map[int32]request, len(t.requests)), make(map[int32]int, len(t.results))
	for _, r := range t.requests {
		live[r.line] = r
	}
	for _, s := range t.results {
		ended[s.line]++
	}
	for _, l := range t.lines {
		r, isLive := live[l.line]
		n := ended[l.line]
		claimed := l.line <= t.cursors[l.model].last
		switch {
		case n > 1:
			p.addf("line %d has %d results", l.line, n)
		case isLive && n > 0:
			p.addf("line %d is %s and has a result", l.line, r.state)
		case claimed && !isLive && n == 0:
			p.addf("line %d is lost: claimed, neither live nor ended", l.line)
		case !claimed && (isLive || n > 0) && t.cursors[l.model].claimedOutOfOrder == 0:
			p.addf("line %d is beyond its cursor and has a row", l.line)
		}
		if isLive {
			checkRequest(p, t.file, l, r)
		}
		delete(live, l.line)
		delete(ended, l.line)
	}
	for line := range live {
		p.addf("request %d is no line of the file", line)
	}
	for line := range ended {
		p.addf("result %d is no line of the file", line)
	}
}

func checkRequest(p *problems, file [16]byte, l template, r request) {
	if r.file != file || r.model != l.model {
		p.addf("request %d is not of its line's file and model", r.line)
	}
	if r.owned != (r.state == batch.Processing) {
		p.addf("request %d is %s; has a daemon: %t", r.line, r.state, r.owned)
	}
	if r.due && r.state != batch.Pending {
		p.addf("request %d is %s and due", r.line, r.state)
	}
	if r.backoff && (r.due || r.state != batch.Pending) {
		p.addf("request %d is %s, due: %t, and in backoff in the stream", r.line, r.state, r.due)
	}
	if r.claim < 1 || r.delivery < 0 || r.state == batch.Processing && r.delivery < 1 {
		p.addf("request %d is %s at claim %d, delivery %d", r.line, r.state, r.claim, r.delivery)
	}
}

// checkResults: numbered without a gap but for the places of skipped lines; once
// there was a retry, in places that it left.
func (t *tables) checkResults(p *problems) {
	next := int64(0)
	for _, s := range t.results {
		if t.skippedAs != "" && next == t.skipSeq {
			next = t.skipEnd
		}
		if s.seq != next && (t.retries == 0 || s.seq < next) {
			p.addf("result of line %d has seq %d, want %d", s.line, s.seq, next)
			break // all that follow would be listed
		}
		if t.skippedAs != "" && s.seq >= t.skipSeq && s.seq < t.skipEnd {
			p.addf("result of line %d has seq %d, reserved for a skipped line", s.line, s.seq)
		}
		next = s.seq + 1
	}
	if t.skippedAs != "" && next <= t.skipSeq {
		next = t.skipEnd
	}
	if t.retries == 0 || t.next < next {
		p.want("next_seq", t.next, next)
	}
	t.checkSkipped(p)
	for _, s := range t.results {
		switch {
		case !s.state.Terminal():
			p.addf("result of line %d is %s", s.line, s.state)
		case (s.state == batch.Completed) != (s.reason == ""):
			p.addf("result of line %d is %s for reason %q", s.line, s.state, s.reason)
		}
		if !s.dated {
			p.addf("result of line %d finished in the future", s.line)
		}
	}
}

// checkSkipped: skipped lines have a state and a place each.
func (t *tables) checkSkipped(p *problems) {
	var skipped int64
	for _, c := range t.cursors {
		skipped += c.skipped
	}
	if (skipped > 0) != (t.skippedAs != "") {
		p.addf("%d lines were skipped, as %q", skipped, t.skippedAs)
	}
	if skipped == 0 {
		return
	}
	rows := t.rows()
	for _, l := range t.lines {
		c := t.cursors[l.model]
		seq := t.skipSeq + int64(l.line) - t.skipLine
		if c.skipped > 0 && l.line > c.last && !rows[l.line] && (seq < t.skipSeq || seq >= t.skipEnd) {
			p.addf("line %d was skipped and has no place in the output", l.line)
		}
	}
}

// rows are the lines with a row of their own.
func (t *tables) rows() map[int32]bool {
	rows := make(map[int32]bool, len(t.requests)+len(t.results))
	for _, r := range t.requests {
		rows[r.line] = true
	}
	for _, s := range t.results {
		rows[s.line] = true
	}
	return rows
}

// checkCounters: the counters are the rows, and sum to the total. Lines that
// were skipped have no row and count as canceled or expired.
func (t *tables) checkCounters(p *problems) {
	rows := make(map[batch.State]int64)
	for _, s := range t.results {
		rows[s.state]++
	}
	var claimed, skipped int64
	for _, c := range t.cursors {
		claimed += c.claimed
		skipped += c.skipped
	}
	p.want("total", t.total, int64(len(t.lines)))
	p.want("completed", t.completed, rows[batch.Completed])
	p.want("failed", t.failed, rows[batch.Failed])
	rows[t.skippedAs] += skipped
	p.want("canceled", t.canceled, rows[batch.Canceled])
	p.want("expired", t.expired, rows[batch.Expired])
	counts := batch.Counts{
		Total: t.total, Pending: t.total - claimed - skipped, InProgress: int64(len(t.requests)),
		Completed: t.completed, Failed: t.failed, Canceled: t.canceled, Expired: t.expired,
	}
	p.want("sum of the counts", counts.Pending+counts.InProgress+counts.Done(), counts.Total)
	t.checkView(p, counts)
}

// checkView: the view shows each line once, in the states that are counted.
func (t *tables) checkView(p *problems, counts batch.Counts) {
	live := make(map[batch.State]int64)
	for _, r := range t.requests {
		live[r.state]++
	}
	for state, want := range map[batch.State]int64{
		batch.Pending: counts.Pending + live[batch.Pending], batch.Claimed: live[batch.Claimed], batch.Processing: live[batch.Processing],
		batch.Completed: counts.Completed, batch.Failed: counts.Failed, batch.Canceled: counts.Canceled, batch.Expired: counts.Expired,
	} {
		p.want("the number of requests that the view shows as "+string(state), t.states[state], want)
	}
}

// checkStatus: a batch has finished if and only if all of its requests have.
func (t *tables) checkStatus(p *problems) {
	counts := batch.Counts{Total: t.total, Completed: t.completed, Failed: t.failed, Canceled: t.canceled, Expired: t.expired}
	if final := counts.Done() == t.total; t.status.Terminal() != final {
		p.addf("status is %s with %d of %d requests ended", t.status, counts.Done(), t.total)
	}
	if t.status.Terminal() != t.stamped {
		p.addf("status is %s; finished_at set: %t", t.status, t.stamped)
	}
	if !t.status.Terminal() {
		return
	}
	if n := len(t.requests); n > 0 {
		p.addf("status is %s with %d live requests", t.status, n)
	}
	for model, c := range t.cursors {
		if c.open {
			p.addf("status is %s and the cursor of model %q is open", t.status, model)
		}
	}
	var want batch.Status
	switch {
	case t.cancelling && t.canceled > 0:
		want = batch.StatusCancelled
	case t.expired > 0:
		want = batch.StatusExpired
	case t.completed > 0:
		want = batch.StatusCompleted
	case t.failed > 0:
		want = batch.StatusFailed
	default:
		want = batch.StatusCancelled
	}
	if t.status != want {
		p.addf("status is %s, want %s", t.status, want)
	}
}
