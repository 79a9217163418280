package protocol

// What the leader does, as internal/dispatch has it.

// leads is what leaders do: they take back what the dead had, and what has no
// message, and go on with cancels and expiries. Whatever one of them does, another
// one may do at the same time, or later.
func (p *Protocol) leads(e *emitter) {
	dead := func(record Record) bool { return record == Silent || record == Beats && p.without(DeathHeartbeat) }
	anyDead, anyDying := false, false
	for d := range daemons {
		record := e.from.Daemons[d].Record
		anyDead = anyDead || record == Dead || record == Over
		anyDying = anyDying || dead(record)
	}
	if anyDying {
		e.fair(Action{Verb: "declare dead who is stale"}, func(s *State) string {
			p.record(Statement{Call: CallDeclareDead})
			for d := range daemons {
				if dead(s.Daemons[d].Record) {
					s.Daemons[d].Record = Dead
				}
			}
			return ""
		})
	}
	for r := range p.Requests {
		p.reaps(e, r, anyDead)
		p.reads(e, r)
	}
	for i := range e.from.Sweeps {
		p.sweeps(e, i)
	}
	for b := range p.batches() {
		first, _ := p.lines(b)
		a := e.from.Batches[b]
		if a.Cancelling == 1 && a.Ended == Absent {
			e.fair(Action{Verb: "go on to cancel the batch of", Request: int8(first + 1)}, func(s *State) string { return p.cancelSlice(s, b) })
		}
		overdue := p.and(ExpiryDeadlineListed, a.Overdue == 1)
		if a.Ended == Absent && overdue && a.Cancelling == 0 && e.from.Expiring == 0 && p.expirable(&e.from, b) {
			e.fair(Action{Verb: "find overdue the batch of", Request: int8(first + 1)}, func(s *State) string {
				s.Expiring = uint8(b + 1)
				p.record(Statement{Call: CallFindExpired, Batch: b, Done: true})
				return ""
			})
		}
	}
	if b := int(e.from.Expiring) - 1; b >= 0 {
		first, _ := p.lines(b)
		e.fair(Action{Verb: "expire the batch of", Request: int8(first + 1)}, func(s *State) string { return p.expireSlice(s, b) })
	}
}

// expirable reports whether anything of the batch is not being called.
func (p *Protocol) expirable(s *State, b int) bool {
	first, end := p.lines(b)
	for r := first; r < end; r++ {
		if row := &s.Rows[r]; row.live() && row.State != Processing {
			return true
		}
	}
	return s.Batches[b].Open == 1
}

// expireSlice is one transaction of an expiry.
func (p *Protocol) expireSlice(s *State, b int) string {
	a := &s.Batches[b]
	s.Expiring = 0
	p.record(Statement{Call: CallExpireSlice, Batch: b})
	if a.Ended != Absent || !p.and(ExpiryDeadlineLocked, a.Overdue == 1) || a.Cancelling == 1 {
		return ""
	}
	before := a.Expired
	full, broken := p.finishSlice(s, b, Expired)
	if broken == "" && a.Overdue == 0 && a.Expired > before {
		broken = DeadlineOnly
	}
	if full && a.Ended == Absent {
		s.Expiring = uint8(b + 1)
	}
	return broken
}

// cancelSlice is one transaction of a cancel.
func (p *Protocol) cancelSlice(s *State, b int) string {
	a := &s.Batches[b]
	a.Cancelling = 1
	p.record(Statement{Call: CallCancelSlice, Batch: b})
	full, broken := p.finishSlice(s, b, Canceled)
	if broken == "" && a.Ended == Absent && !full {
		return CountersRows // it is in progress, and nothing of it is left
	}
	return broken
}

// reaps is Reclaim, and the removal of a message of the claim that is void.
func (p *Protocol) reaps(e *emitter, r int, anyDead bool) {
	row := e.from.Rows[r]
	dead := false
	if row.Daemon > 0 {
		record := e.from.Daemons[row.Daemon-1].Record
		dead = record == Dead || record == Over
	}
	for other := range r {
		if row.Daemon > 0 && e.from.Rows[other].Daemon == row.Daemon {
			return // that one first
		}
	}
	if p.without(ReclaimDead) {
		dead = anyDead
	}
	if row.Daemon == 0 || !dead {
		return
	}
	a := Action{Verb: "reclaim", Request: int8(r + 1), Claim: row.Claim}
	e.fair(a, func(s *State) string {
		if p.reclaim(s, r) {
			s.ack(r, row.Claim)
		}
		return ""
	})
	a.Detail = BrokerLost
	e.may(a, func(s *State) string {
		p.reclaim(s, r)
		return ""
	})
}

// reads is overdueSQL, of one request. That a claim is overdue while its dispatcher
// publishes, or its message is there, takes a fault: it is slower than the timeout.
func (p *Protocol) reads(e *emitter, r int) {
	free, busy := -1, 0
	for i := range e.from.Sweeps {
		if e.from.Sweeps[i].Step == NoSweep {
			free = i
		} else {
			busy++
		}
	}
	row := e.from.Rows[r]
	if busy >= p.Leaders || !row.live() || row.Due > 0 || row.Backoff > 0 {
		return
	}
	read := func(s *State) string {
		p.record(Statement{Call: CallOverdue, Request: r, Task: Task{Claim: row.Claim, Delivery: row.Delivery}, Done: true})
		s.Sweeps[free] = Sweep{Step: LookUp, Request: uint8(r), Claim: row.Claim, Delivery: row.Delivery}
		return ""
	}
	a := Action{Verb: "find overdue", Request: int8(r + 1), Claim: row.Claim, Delivery: row.Delivery}
	if row.State == Processing {
		if row.Overtime == 1 || e.from.Daemons[row.Daemon-1].Record != Beats {
			e.fair(a, read)
		}
		return
	}
	waits := e.from.Messages[r].Claim == row.Claim
	for _, u := range e.from.Publishes[r] {
		waits = waits || u.Claim == row.Claim
	}
	if waits {
		e.fault(Slow, a, read)
	} else {
		e.fair(a, read)
	}
}

// sweeps is sweepPage, of one request.
func (p *Protocol) sweeps(e *emitter, i int) {
	w := e.from.Sweeps[i]
	if w.Step == NoSweep || i > 0 && w == e.from.Sweeps[i-1] {
		return
	}
	r := int(w.Request)
	m := e.from.Messages[r]
	a := Action{Verb: "look up the message of", Request: int8(r + 1), Claim: w.Claim, Delivery: w.Delivery}
	if w.Step == LookUp {
		e.fair(a, func(s *State) string {
			switch {
			case m.Claim == w.Claim:
				s.Sweeps[i] = Sweep{}
			case m.Claim > w.Claim:
				s.Sweeps[i].Step = LostUnopened
			default:
				s.Sweeps[i].Step = Lost
			}
			return ""
		})
		return
	}
	a.Verb = "release what has no message,"
	e.fair(a, func(s *State) string {
		s.Sweeps[i] = Sweep{}
		waits := s.Rows[r].Due > 0 // and is due at once now, if it is released
		released := p.releaseClaim(s, r, w.Claim, w.Delivery, 1, 1)
		if released && w.Moved == 1 && !waits {
			return ReleaseLost
		}
		if released && w.Step == LostUnopened && s.Messages[r].Claim > w.Claim {
			s.Messages[r] = Message{}
		}
		return ""
	})
}
