package protocol

// What becomes of messages, and of time.

// broker is what becomes of a request's message, and of its time.
func (p *Protocol) broker(e *emitter, r int) {
	s := &e.from
	m, row := s.Messages[r], s.Rows[r]
	act := func(verb string, detail Detail) Action {
		return Action{Verb: verb, Request: int8(r + 1), Claim: m.Claim, Detail: detail}
	}
	if m.Out == 1 {
		free := func(s *State) string {
			s.Messages[r].Out = 0
			return ""
		}
		if p.leased(s, r) {
			e.fault(Duplicate, act("let the lease end of", OutOfWindow), free)
		} else {
			e.fair(act("let the lease end of", Well), free)
		}
	}
	if m.Claim > 0 {
		e.fault(LoseOne, act("lose the message of", Well), func(s *State) string {
			s.Messages[r] = Message{}
			return ""
		})
	}
	if m.Delivery > 0 {
		e.fault(Forget, act("forget how often it delivered", Well), func(s *State) string {
			s.Messages[r].Delivery, s.Messages[r].Out = 0, 0
			return ""
		})
	}
	if r == 0 {
		e.fault(Forget, Action{Verb: "have the broker forget all messages"}, func(s *State) string {
			s.Messages = [requests]Message{}
			return ""
		})
	}
	for claim := uint8(1); claim <= max(row.Claim, s.Results[r].Claim); claim++ {
		for delivery := range uint8(3) {
			a := Action{Verb: "go back in time, to a message of", Request: int8(r + 1), Claim: claim, Delivery: delivery}
			e.fault(GoBack, a, func(s *State) string {
				s.Messages[r] = Message{Claim: claim, Delivery: delivery}
				return ""
			})
		}
	}
	if row.Backoff > 0 || row.Due == 2 {
		e.fair(Action{Verb: "let the backoff end of", Request: int8(r + 1)}, func(s *State) string {
			row := &s.Rows[r]
			row.Backoff, row.Due = 0, min(row.Due, 1)
			p.record(Statement{Call: TimeBackoff, Request: r})
			return ""
		})
	}
	if row.State == Processing && row.Overtime == 0 {
		over := func(s *State) string {
			s.Rows[r].Overtime = 1
			p.record(Statement{Call: TimeOvertime, Request: r})
			return ""
		}
		a := Action{Verb: "let the processing timeout pass of", Request: int8(r + 1)}
		if row.Stray == 1 || s.Daemons[row.Daemon-1].Tasks[r].Stage == Hung {
			e.fair(a, over)
		} else {
			e.fault(Hang, a, over)
		}
		p.hangs(e, r)
	}
}

// hangs makes the request's consumer wait for ever, if no other one does.
func (p *Protocol) hangs(e *emitter, r int) {
	for d := range daemons {
		for i := range p.Requests {
			if e.from.Daemons[d].Tasks[i].Stage == Hung {
				return
			}
		}
	}
	d := int(e.from.Rows[r].Daemon) - 1
	if t := e.from.Daemons[d].Tasks[r]; e.from.Daemons[d].Process == Running && t.Title == Owner && (t.Stage == Started || t.Stage == Calling) {
		e.fault(Hang, Action{Verb: "wait for ever with", Request: int8(r + 1), Daemon: int8(d + 1)}, func(s *State) string {
			s.Daemons[d].Tasks[r].Stage, s.Rows[r].Overtime = Hung, 1
			p.record(Statement{Call: TimeOvertime, Request: r})
			return ""
		})
	}
}

// leased reports whether a consumer renews the lease of the request's message.
func (p *Protocol) leased(s *State, r int) bool {
	for d := range daemons {
		a := &s.Daemons[d]
		t := a.Tasks[r]
		late := s.Rows[r].Overtime == 1 && !t.Stage.decided()
		if (a.Process == Running || a.Process == Stopping) && t.Stage != NoTask && t.Stage != Hung && t.Claim == s.Messages[r].Claim && !late {
			return true
		}
	}
	return false
}
