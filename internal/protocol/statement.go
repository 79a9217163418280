package protocol

// The statements of internal/postgres, each in one step, as Postgres makes them.
// A condition that fences has the name of its Guard.

// live reports whether the request has a row.
func (r *Row) live() bool { return r.State != Absent }

// lives is what the statements ask about the daemon of a row that is processing.
func (p *Protocol) alive(s *State, daemon uint8) bool {
	if daemon == 0 {
		return false
	}
	switch s.Daemons[daemon-1].Record {
	case Beats:
		return true
	case Silent:
		return p.without(StartFromStale)
	case Over:
		return p.without(StartFromDeclaredDead)
	}
	return false
}

// Verdict is postgres.Verdict.
type Verdict uint8

// The verdicts of a start.
const (
	VerdictStale Verdict = iota
	VerdictStarted
	VerdictBusy
	VerdictEarly
)

// start is startSQL and refusedSQL, of one delivery.
func (p *Protocol) start(s *State, d, r int, t Task) (Verdict, string) {
	v, broken := p.startRow(s, d, r, t)
	p.record(Statement{Call: CallStart, Daemon: d, Request: r, Task: t, Verdict: v})
	return v, broken
}

func (p *Protocol) startRow(s *State, d, r int, t Task) (Verdict, string) {
	row := &s.Rows[r]
	own := row.Daemon == uint8(d+1)
	dead := row.State == Processing && !own && s.Daemons[row.Daemon-1].Record != Beats
	past := !row.live() || row.Claim != t.Claim || row.Due > 0
	if row.live() && p.and(StartClaim, row.Claim == t.Claim) &&
		p.and(StartDelivery, row.Delivery < t.Delivery ||
			p.or(StartSameDelivery, row.Delivery == t.Delivery && p.and(StartSameDeliveryDaemon, own))) &&
		p.and(StartNotDue, row.Due == 0) &&
		p.and(StartNotInBackoff, row.Backoff == 0) &&
		p.and(StartFromDead, p.or(StartUnprocessed, row.State != Processing) || p.or(StartFromOneself, own) ||
			p.or(StartPastTimeout, row.Overtime == 1) || !p.alive(s, row.Daemon)) {
		broken := ""
		switch {
		case row.Backoff > 0:
			broken = BackoffKept
		case s.Batches[p.batchOf(r)].Ended != Absent:
			broken = NothingMore
		}
		if row.State == Processing && !own {
			row.Takeovers++
			s.takenFrom(r)
		}
		if !own || row.Delivery != t.Delivery {
			s.moved(r)
		}
		row.State, row.Daemon, row.Delivery, row.Backoff, row.Overtime, row.Stray = Processing, uint8(d+1), t.Delivery, 0, 0, 0
		return VerdictStarted, broken
	}
	if row.live() && p.and(RefusalClaim, row.Claim == t.Claim) && p.and(RefusalNotDue, row.Due == 0) {
		switch {
		case past:
			return VerdictBusy, PastAcked
		case row.State == Processing && dead && row.Delivery < t.Delivery:
			return VerdictBusy, DeadReplaced // one that is behind waits until it is counted as far
		case row.State == Processing:
			return VerdictBusy, ""
		}
		return VerdictEarly, ""
	}
	return VerdictStale, ""
}

// moved is for the invariants: what leaders have read of the request is of the past.
func (s *State) moved(r int) {
	for i := range s.Sweeps {
		if w := &s.Sweeps[i]; w.Step != NoSweep && int(w.Request) == r {
			w.Moved = 1
		}
	}
}

// lose is for the invariants: nobody owns the request any more.
func (s *State) lose(r int, title Title) {
	for d := range daemons {
		if t := &s.Daemons[d].Tasks[r]; t.Title == Owner {
			t.Title = title
		}
	}
	if w := &s.Late; int(w.Request) == r && w.Task.Title == Owner {
		w.Task.Title = title
	}
}

// takenFrom is for the invariants: the request is taken from the daemon that
// processes it. If that is no more, or the call took too long, another call is
// allowed.
func (s *State) takenFrom(r int) {
	row := &s.Rows[r]
	owner := &s.Daemons[row.Daemon-1]
	if row.Overtime == 1 || owner.Process != Running && owner.Process != Stopping {
		s.Called[r] = 0
	}
	title := Stranger
	if row.Overtime == 1 {
		title = Excused
	}
	s.lose(r, title)
}

// mine is the condition of a write about a call: a result, a retry or a release
// by its consumer, a renewal.
func (p *Protocol) mine(row *Row, d int, t Task, claim, delivery, processing, daemon Guard) bool {
	return row.live() && p.and(claim, row.Claim == t.Claim) && p.and(delivery, row.Delivery == t.Delivery) &&
		p.and(processing, row.State == Processing) && (row.Daemon == uint8(d+1) || p.without(daemon) && row.Daemon > 0)
}

// fenced is for the invariants: what a write is that matches, or does not.
func fenced(t Task, matches bool) string {
	switch {
	case matches && t.Title != Owner:
		return OwnerWrites
	case !matches && t.Title == Owner:
		return OwnerStores
	}
	return ""
}

// finish is finishSQL and releaseSQL, of one decision. It reports whether it was
// written.
func (p *Protocol) finish(s *State, d, r int, t Task) (bool, string) {
	row := &s.Rows[r]
	ends := t.Stage == Complete || t.Stage == Fail
	matches := false
	if ends {
		matches = p.mine(row, d, t, ResultClaim, ResultDelivery, ResultProcessing, ResultDaemon)
	} else {
		matches = p.mine(row, d, t, RetryClaim, RetryDelivery, RetryProcessing, RetryDaemon)
	}
	p.record(Statement{Call: CallFinish, Daemon: d, Request: r, Task: t, Done: matches})
	broken := fenced(t, matches)
	if !matches || broken != "" {
		return matches, broken
	}
	s.lose(r, Excused)
	if ends {
		as := Completed
		if t.Stage == Fail {
			as = Failed
		}
		s.Results[r] = Result{State: as, Claim: row.Claim}
		*row = Row{}
		p.count(s, p.batchOf(r), as, 1)
		return true, ""
	}
	row.State, row.Daemon, row.Overtime, row.Stray = Pending, 0, 0, 0
	s.Called[r] = 0 // a retry, or a call that was cut off
	switch t.Stage {
	case Retry:
		row.Backoff = 1
		row.Attempt++
	case RetryDue:
		row.Due = 2
		row.Attempt++
	}
	return true, ""
}

// renew is renewSQL, of one delivery.
func (p *Protocol) renew(s *State, d, r int, t Task) string {
	row := &s.Rows[r]
	matches := p.mine(row, d, t, RenewalClaim, RenewalDelivery, RenewalProcessing, RenewalDaemon)
	p.record(Statement{Call: CallRenewStarts, Daemon: d, Request: r, Task: t, Done: matches})
	if matches {
		row.Overtime = 0
	}
	return fenced(t, matches)
}

// claim is claimSQL, of one line. It reports the request that was claimed.
func (p *Protocol) claim(s *State, b int) (r int, broken string) {
	r, broken = p.claimLine(s, b)
	p.record(Statement{Call: CallClaim, Batch: b, Request: max(r, 0), Done: r >= 0})
	return r, broken
}

func (p *Protocol) claimLine(s *State, b int) (r int, broken string) {
	a := &s.Batches[b]
	if a.Open == 0 || a.Ended != Absent {
		return -1, ""
	}
	first, end := p.lines(b)
	for r := first + int(a.Last); r < end; r++ {
		has := s.Rows[r].live() || s.Results[r].State != Absent
		if a.OutOfOrder > 0 && has {
			continue
		}
		if a.Cancelling == 1 {
			return -1, NothingMore
		}
		if has {
			return -1, OneResult
		}
		s.Rows[r] = Row{State: Claimed, Claim: 1}
		s.moved(r)
		a.Claimed++
		a.Last = uint8(r - first + 1)
		a.reopen(p.total(b))
		return r, ""
	}
	return -1, ""
}

func (b *Batch) reopen(total uint8) {
	b.Open = 0
	if b.Claimed+b.Skipped < total {
		b.Open = 1
	}
}

// claimDue is claimDueSQL, of one request.
func (p *Protocol) claimDue(s *State, r int) (bool, string) {
	row, a := &s.Rows[r], &s.Batches[p.batchOf(r)]
	if !row.live() || row.Due != 1 || !p.and(DueNotCancelling, a.Cancelling == 0) {
		return false, ""
	}
	row.State, row.Delivery, row.Due, row.Backoff = Claimed, 0, 0, 0
	row.Claim++
	s.moved(r)
	p.record(Statement{Call: CallClaimDue, Request: r, Done: true})
	if a.Cancelling == 1 || a.Ended != Absent {
		return true, NothingMore
	}
	return true, ""
}

// releaseClaim is releaseClaimsSQL, of one request. due is as that of Row. overtime
// is 1 if the request was found to be processed for too long, whatever is so now.
func (p *Protocol) releaseClaim(s *State, r int, claim, delivery, due, overtime uint8) bool {
	row := &s.Rows[r]
	matches := row.live() && p.and(ReleaseClaim, row.Claim == claim) && p.and(ReleaseDelivery, row.Delivery == delivery)
	p.record(Statement{Call: CallReleaseClaims, Request: r, Task: Task{Claim: claim, Delivery: delivery}, Due: due, Done: matches})
	if !matches {
		return false
	}
	if row.State == Processing {
		row.Overtime = max(row.Overtime, overtime)
		s.takenFrom(r)
	}
	row.State, row.Daemon, row.Due, row.Backoff, row.Overtime, row.Stray = Pending, 0, due, 0, 0, 0
	return true
}

// reclaim is reclaimSQL, of one request.
func (p *Protocol) reclaim(s *State, r int) bool {
	row := &s.Rows[r]
	if !row.live() || !p.and(ReclaimProcessing, row.State == Processing) {
		return false
	}
	p.record(Statement{Call: CallReclaim, Request: r, Daemon: int(row.Daemon) - 1, Done: true})
	if row.State == Processing {
		s.takenFrom(r)
	}
	row.State, row.Daemon, row.Due, row.Backoff, row.Overtime, row.Stray = Pending, 0, 1, 0, 0, 0
	row.Takeovers++
	return true
}
