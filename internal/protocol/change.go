package protocol

// What people ask for, as internal/control has it.

// Verbs that are asked for elsewhere.
const (
	Rerun     = "rerun the batch of"
	RerunLine = "rerun"
)

// changes is what people ask for of a batch, and its deadline.
func (p *Protocol) changes(e *emitter, b int) {
	first, _ := p.lines(b)
	act := func(verb string) Action { return Action{Verb: verb, Request: int8(first + 1)} }
	a := e.from.Batches[b]
	if a.Ended == Absent && a.Cancelling == 0 {
		e.change(act("cancel the batch of"), func(s *State) string { return p.cancelSlice(s, b) })
	}
	if a.Ended == Absent && a.Overdue == 0 {
		e.change(act("let the deadline pass of the batch of"), func(s *State) string {
			s.Batches[b].Overdue = 1
			p.record(Statement{Call: TimeDeadline, Batch: b})
			return ""
		})
	}
	if a.Failed+a.Canceled+a.Expired > 0 || p.without(RerunStates) && a.Completed > 0 {
		e.change(act(Rerun), func(s *State) string {
			p.rerun(s, b)
			return ""
		})
	}
}

// requestChanges is what people ask for of a request.
func (p *Protocol) requestChanges(e *emitter, r int) {
	e.change(Action{Verb: "cancel", Request: int8(r + 1)}, func(s *State) string {
		p.cancelLine(s, r)
		return ""
	})
	e.change(Action{Verb: RerunLine, Request: int8(r + 1)}, func(s *State) string { return p.rerunLine(s, r) })
}
