package protocol

// The statements of internal/postgres about batches.

// count is countSQL: it moves a batch's counters, and its status with the last
// request.
func (p *Protocol) count(s *State, b int, as Phase, n uint8) {
	a := &s.Batches[b]
	expired := uint8(0) // by this statement
	switch as {
	case Completed:
		a.Completed += n
	case Failed:
		a.Failed += n
	case Canceled:
		a.Canceled += n
	case Expired:
		a.Expired += n
		expired = n
	}
	switch {
	case a.Completed+a.Failed+a.Canceled+a.Expired < p.total(b):
	case p.or(StatusCancelled, a.Cancelling == 1 && a.Canceled > 0):
		a.Ended = Canceled
	case expired > 0 || p.or(StatusExpired, a.Expired > 0):
		a.Ended = Expired
	case a.Completed > 0:
		a.Ended = Completed
	case a.Failed > 0:
		a.Ended = Failed
	default:
		a.Ended = Canceled
	}
}

// finishSlice is lockLiveSQL and finishSliceSQL: it finishes up to a slice of the
// live requests of a batch, and all that is beyond its cursor.
func (p *Protocol) finishSlice(s *State, b int, as Phase) (full bool, broken string) {
	a := &s.Batches[b]
	live, skipped := uint8(0), uint8(0)
	first, end := p.lines(b)
	for r := first; r < end && !full; r++ {
		row := &s.Rows[r]
		if !row.live() || as == Expired && !p.and(ExpiryNotCalled, row.State != Processing) {
			continue
		}
		if as == Expired && row.State == Processing {
			return false, CallsFinish
		}
		if p.TwoBatches && p.without(EndOneBatch) && s.Rows[1-r].live() {
			return false, OneResult // both are line 1 of their batches: the result of one would be stored twice
		}
		s.end(r, as)
		live++
		full = p.Slice > 0 && int(live) == p.Slice
	}
	for other := range p.batches() {
		c := &s.Batches[other]
		if other != b && !p.without(EndOneBatchCursors) || !p.and(EndUnclaimed, c.Open == 1) {
			continue
		}
		c.Skipped = p.total(other) - c.Claimed
		c.Open = 0
		skipped += c.Skipped
	}
	if live+skipped == 0 {
		return full, ""
	}
	if skipped > 0 {
		a.SkippedAs = as
	}
	p.count(s, b, as, live+skipped)
	return full, ""
}

// end turns a row into a result, from outside.
func (s *State) end(r int, as Phase) {
	s.Results[r] = Result{State: as, Claim: s.Rows[r].Claim}
	s.Rows[r] = Row{}
	s.lose(r, Excused)
}

// cancelLine is cancelLinesSQL, of one line.
func (p *Protocol) cancelLine(s *State, r int) {
	b := p.batchOf(r)
	a := &s.Batches[b]
	first, _ := p.lines(b)
	p.record(Statement{Call: CallCancelRequests, Batch: b, Request: r})
	switch {
	case a.Ended != Absent:
		return
	case s.Rows[r].live():
		s.end(r, Canceled)
	case a.Open == 1 && int(a.Last) < r-first+1 && s.Results[r].State == Absent:
		s.Results[r] = Result{State: Canceled}
		a.Claimed++
		a.OutOfOrder++
		a.reopen(p.total(b))
	default:
		return
	}
	p.count(s, b, Canceled, 1)
}

// rerun is RerunRequests, of all states that it may be asked for.
func (p *Protocol) rerun(s *State, b int) {
	a := &s.Batches[b]
	if a.Cancelling == 1 && a.Ended == Absent || a.Failed+a.Canceled+a.Expired == 0 {
		return
	}
	p.record(Statement{Call: CallRerunRequests, Batch: b})
	a.Reruns = min(a.Reruns+1, 1)
	back := map4{}
	if a.Skipped > 0 {
		back.add(a.SkippedAs, a.Skipped)
		a.Skipped, a.Open = 0, 1
	}
	first, end := p.lines(b)
	for r := first; r < end; r++ {
		if state := s.Results[r].State; state > Completed || state == Completed && p.without(RerunStates) {
			back.add(state, 1)
			s.back(r)
		}
	}
	p.reopen(s, b, back)
}

// back makes a request of a result: it is due, in a new generation.
func (s *State) back(r int) {
	s.Rows[r] = Row{State: Pending, Claim: max(s.Results[r].Claim, 1), Due: 1}
	s.Results[r] = Result{}
	s.Called[r] = 0
}

// rerunLine is RerunLines, of one line.
func (p *Protocol) rerunLine(s *State, r int) string {
	b := p.batchOf(r)
	a := &s.Batches[b]
	if a.Cancelling == 1 && a.Ended == Absent {
		return ""
	}
	p.record(Statement{Call: CallRerunLines, Batch: b, Request: r})
	back := map4{}
	first, _ := p.lines(b)
	beyond := int(a.Last) < r-first+1 && p.and(RerunLinesSkipped, a.Skipped > 0)
	switch state := s.Results[r].State; {
	case state > Completed || state == Completed && p.without(RerunLinesNotCompleted):
		back.add(state, 1)
		s.back(r)
	case beyond && p.and(RerunLinesNotLive, !s.Rows[r].live()) && p.and(RerunLinesNoResult, state == Absent):
		if s.Rows[r].live() {
			return OneResult // the primary key of the table refuses it
		}
		back.add(a.SkippedAs, 1)
		s.Rows[r] = Row{State: Pending, Claim: 1, Due: 1}
		s.Called[r] = 0
		a.Claimed++
		a.OutOfOrder++
		a.Skipped--
	default:
		return ""
	}
	a.Reruns = min(a.Reruns+1, 1)
	p.reopen(s, b, back)
	return ""
}

// reopen is reopenBatchSQL.
func (p *Protocol) reopen(s *State, b int, back map4) {
	a := &s.Batches[b]
	a.Failed -= back[1]
	a.Canceled -= back[2]
	a.Expired -= back[3]
	a.Ended, a.Cancelling, a.Overdue = Absent, 0, 0
	if a.Skipped == 0 {
		a.SkippedAs = Absent
	}
}
