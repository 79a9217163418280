package protocol

// What dispatchers do, as internal/dispatch has it.

// claims makes the claims of what was never claimed.
func (p *Protocol) claims(e *emitter, b int) {
	first, _ := p.lines(b)
	e.fair(Action{Verb: "claim from the batch of", Request: int8(first + 1)}, func(s *State) string {
		r, broken := p.claim(s, b)
		if broken == "" && r >= 0 && !s.publish(r, 1) {
			*s = e.from // all dispatchers are busy
		}
		return broken
	})
}

// publish has a dispatcher begin to publish a claim, if one has nothing else under
// way with the request.
func (s *State) publish(r int, claim uint8) bool {
	for i := range s.Publishes[r] {
		if u := &s.Publishes[r][i]; u.Claim == 0 {
			*u = Publish{Claim: claim}
			return true
		}
	}
	return false
}

func (p *Protocol) dispatches(e *emitter, r int) {
	if row := e.from.Rows[r]; row.Due == 1 {
		e.fair(Action{Verb: "claim what is due,", Request: int8(r + 1), Claim: row.Claim + 1}, func(s *State) string {
			claimed, broken := p.claimDue(s, r)
			if broken == "" && claimed && !s.publish(r, s.Rows[r].Claim) {
				*s = e.from
			}
			return broken
		})
	}
	for i := range dispatchers {
		if e.from.Publishes[r][i].Claim > 0 && (i == 0 || e.from.Publishes[r][i] != e.from.Publishes[r][i-1]) {
			p.publishes(e, r, i)
		}
	}
}

// publishes is publish, confirm and replace, of one request.
func (p *Protocol) publishes(e *emitter, r, i int) {
	u, m := e.from.Publishes[r][i], e.from.Messages[r]
	act := func(verb string, detail Detail) Action {
		return Action{Verb: verb, Request: int8(r + 1), Claim: u.Claim, Detail: detail}
	}
	done := func(s *State) { s.Publishes[r][i] = Publish{} }
	next := func(s *State, step PublishStep) { s.Publishes[r][i].Step = step }
	e.fault(Crash, act("have the dispatcher crash that publishes", Well), func(s *State) string {
		done(s)
		return ""
	})
	switch u.Step {
	case ToPublish, ToRepublish:
		e.fair(act("publish", Well), func(s *State) string {
			switch {
			case m.Claim == 0:
				s.Messages[r] = Message{Claim: u.Claim}
				done(s)
			case u.Step == ToPublish:
				next(s, ToLook)
			default:
				next(s, ToRelease) // taken again, by another
			}
			return ""
		})
		e.fault(LoseOne, act("publish", NotDone), func(s *State) string {
			next(s, ToRelease)
			return ""
		})
		if m.Claim == 0 {
			e.fault(LoseOne, act("publish", AnswerLost), func(s *State) string {
				s.Messages[r] = Message{Claim: u.Claim}
				next(s, ToRelease)
				return ""
			})
		}
		if e.from.Late.Kind == NoWrite {
			late := Write{Kind: LatePublish, Request: uint8(r), Task: Task{Claim: u.Claim}}
			e.fault(Linger, act("publish", Lingers), func(s *State) string {
				s.Late = late
				next(s, ToRelease)
				return ""
			})
			if m.Claim == 0 {
				e.fault(Duplicate, act("publish twice", Lingers), func(s *State) string {
					s.Messages[r] = Message{Claim: u.Claim}
					s.Late = late
					done(s)
					return ""
				})
			}
		}
	case ToLook:
		e.fair(act("look what is in the way of", Well), func(s *State) string {
			switch {
			case m.Claim == 0:
				next(s, ToRepublish)
			case m.Claim >= u.Claim:
				done(s)
			default:
				s.Publishes[r][i].Seen = m.Claim
				next(s, ToRemove)
			}
			return ""
		})
	case ToRemove:
		e.fair(act("remove the message in the way of", Well), func(s *State) string {
			if m.Claim == u.Seen {
				s.Messages[r] = Message{}
			}
			s.Publishes[r][i].Seen = 0
			next(s, ToRepublish)
			return ""
		})
	case ToRelease:
		e.fair(act("release what could not be published,", Well), func(s *State) string {
			done(s)
			p.releaseClaim(s, r, u.Claim, 0, 2, 0)
			return ""
		})
	}
}
