package protocol

// What a consumer does with a request, as internal/consume has it.

func (p *Protocol) consumes(e *emitter, d, r int) {
	s := &e.from
	a, m := &s.Daemons[d], s.Messages[r]
	t := a.Tasks[r]
	act := func(verb string, detail Detail) Action {
		return Action{Verb: verb, Request: int8(r + 1), Daemon: int8(d + 1), Claim: t.Claim, Delivery: t.Delivery, Detail: detail}
	}
	if a.Process == Running && m.Claim > 0 && m.Out == 0 {
		e.fair(Action{Verb: "deliver", Request: int8(r + 1), Daemon: int8(d + 1), Claim: m.Claim, Delivery: m.Delivery + 1}, func(s *State) string {
			m := &s.Messages[r]
			m.Delivery++
			// One that comes while the call goes on here is sent back.
			if t := &s.Daemons[d].Tasks[r]; t.Stage == NoTask {
				*t = Task{Stage: Received, Claim: m.Claim, Delivery: m.Delivery}
				m.Out = 1
			}
			return ""
		})
	}
	if a.Process == Gone || a.Process == Frozen || t.Stage == NoTask {
		return
	}
	if t.Stage != Received {
		e.fair(act("look whether it lives,", Well), func(s *State) string { return p.look(s, d, r) })
	}
	switch {
	case t.Stage == Received && a.Process == Stopping:
		e.fair(act("release the message of", Well), func(s *State) string {
			s.nak(r, t.Claim)
			s.Daemons[d].Tasks[r] = Task{}
			return ""
		})
	case t.Stage == Received:
		p.starts(e, d, r, act)
	case t.Stage == Started && a.Process == Stopping:
		p.writes(e, d, r, Return, act)
	case t.Stage == Started && (a.Process == Running || p.without(CallNotLapsed)):
		e.fair(act("call", Well), func(s *State) string { return p.call(s, d, r) })
	case t.Stage == Calling:
		p.callEnds(e, d, r, act)
	case t.Stage.decided():
		p.writes(e, d, r, t.Stage, act)
	}
}

// starts is flushStarts.
func (p *Protocol) starts(e *emitter, d, r int, act func(string, Detail) Action) {
	e.fair(act("start", Well), func(s *State) string { return p.startAndHandle(s, d, r, false) })
	e.fault(LoseOne, act("start", AnswerLost), func(s *State) string {
		_, broken := p.start(s, d, r, s.Daemons[d].Tasks[r])
		return broken
	})
	// Starts are not flushed to disk. What Postgres loses in a crash is as if it
	// had never been, but for the answer.
	e.fault(LoseOne, act("start", Unflushed), func(s *State) string {
		before := *s
		own := s.Rows[r].Daemon == uint8(d+1)
		v, _ := p.startRow(s, d, r, s.Daemons[d].Tasks[r])
		*s = before
		if v == VerdictStarted && !own {
			t := &s.Daemons[d].Tasks[r]
			t.Stage, t.Title = Started, Excused
		}
		return ""
	})
	e.fault(LoseOne, act("start", BrokerLost), func(s *State) string { return p.startAndHandle(s, d, r, true) })
	if e.from.Late.Kind == NoWrite {
		e.fault(Linger, act("start", Lingers), func(s *State) string {
			s.Late = Write{Kind: LateStart, Daemon: uint8(d), Request: uint8(r), Task: s.Daemons[d].Tasks[r]}
			return ""
		})
	}
}

func (p *Protocol) startAndHandle(s *State, d, r int, mute bool) string {
	t := &s.Daemons[d].Tasks[r]
	delivery := *t
	fresh := s.Rows[r].State != Processing || s.Rows[r].Daemon != uint8(d+1)
	v, broken := p.start(s, d, r, delivery)
	if broken != "" {
		return broken
	}
	switch v {
	case VerdictStarted:
		if fresh {
			s.lose(r, Stranger)
		} else {
			s.lose(r, Excused)
		}
		t.Stage, t.Title = Started, Owner
		if s.Rows[r].Takeovers >= maxTakeovers {
			t.Stage = Fail // poisoned
		}
		return ""
	case VerdictStale:
		if !mute {
			s.ack(r, delivery.Claim)
		}
	case VerdictBusy, VerdictEarly:
		if !mute {
			s.nak(r, delivery.Claim)
		}
	}
	*t = Task{}
	return ""
}

// call is what the invariant counts.
func (p *Protocol) call(s *State, d, r int) string {
	t := &s.Daemons[d].Tasks[r]
	t.Stage = Calling
	switch t.Title {
	case Stranger:
		return OneCall
	case Owner:
		if s.Called[r] == 1 {
			return OneCall
		}
		s.Called[r] = 1
	}
	return ""
}

// callEnds is call and flushFinishes. A decision that is made and one that is
// written are one step: what may happen in between may as well happen before the
// call ends.
func (p *Protocol) callEnds(e *emitter, d, r int, act func(string, Detail) Action) {
	t, row := e.from.Daemons[d].Tasks[r], e.from.Rows[r]
	p.writes(e, d, r, Complete, act)
	switch {
	case t.Title != Owner: // nothing of it is written, whatever it is
		p.writes(e, d, r, Retry, act)
	case int(row.Attempt) >= p.Retries:
		p.writes(e, d, r, Fail, act)
	default:
		p.writes(e, d, r, Retry, act)
		p.writes(e, d, r, RetryDue, act)
		if e.from.Batches[p.batchOf(r)].Overdue == 1 {
			p.writes(e, d, r, Fail, act)
		}
	}
	if e.from.Daemons[d].Process == Stopping {
		p.writes(e, d, r, Return, act) // it was cut off
	}
	// A streamed answer goes on.
	e.may(act("renew the start of", Well), func(s *State) string { return p.renew(s, d, r, s.Daemons[d].Tasks[r]) })
	if e.from.Late.Kind == NoWrite {
		e.fault(Linger, act("renew the start of", Lingers), func(s *State) string {
			s.Late = Write{Kind: LateRenewal, Daemon: uint8(d), Request: uint8(r), Task: s.Daemons[d].Tasks[r]}
			return ""
		})
	}
}

var decisions = [...]string{
	Complete: "write the result of", Fail: "write the failure of", Retry: "write the retry (in the stream) of",
	RetryDue: "write the retry (in Postgres) of", Return: "write the release of",
}

// writes is flushFinishes, of one decision, and the answer to the broker.
func (p *Protocol) writes(e *emitter, d, r int, as Stage, act func(string, Detail) Action) {
	verb := decisions[as]
	write := func(how Detail) func(*State) string {
		return func(s *State) string {
			s.Daemons[d].Tasks[r].Stage = as
			return p.write(s, d, r, how)
		}
	}
	e.fair(act(verb, Well), write(Well))
	e.fault(LoseOne, act(verb, BrokerLost), write(BrokerLost))
	e.fault(LoseOne, act(verb, AnswerLost), func(s *State) string {
		t := &s.Daemons[d].Tasks[r]
		t.Stage = as // and it is tried again
		_, broken := p.finish(s, d, r, *t)
		return broken
	})
	if e.from.Late.Kind == NoWrite {
		e.fault(Linger, act(verb, BrokerLate), write(BrokerLate))
		e.fault(Linger, act(verb, Lingers), func(s *State) string {
			t := &s.Daemons[d].Tasks[r]
			t.Stage = as // and it is tried again
			s.Late = Write{Kind: LateDecision, Daemon: uint8(d), Request: uint8(r), Task: *t}
			return ""
		})
	}
}

func (p *Protocol) write(s *State, d, r int, how Detail) string {
	t := s.Daemons[d].Tasks[r]
	s.Daemons[d].Tasks[r] = Task{}
	written, broken := p.finish(s, d, r, t)
	if broken != "" || !written {
		return broken // one that is fenced leaves the message to its lease
	}
	switch acks := t.Stage != Retry && t.Stage != Return; {
	case how == BrokerLost:
	case how == BrokerLate && acks:
		s.Late = Write{Kind: LateAck, Request: uint8(r), Task: Task{Claim: t.Claim}}
	case acks:
		s.ack(r, t.Claim)
	default:
		s.nak(r, t.Claim)
	}
	return ""
}

// look is checkLiveness, and what follows for one task.
func (p *Protocol) look(s *State, d, r int) string {
	t, row := &s.Daemons[d].Tasks[r], s.Rows[r]
	p.record(Statement{Call: CallCheckLiveness, Daemon: d, Request: r, Task: *t,
		Done: row.live() && row.Claim == t.Claim && row.Due == 0 && row.Delivery <= t.Delivery})
	switch {
	case !row.live() || row.Claim != t.Claim || row.Due > 0: // ended
		s.ack(r, t.Claim)
	case row.Delivery > t.Delivery: // taken: its message is the new owner's
	default:
		return ""
	}
	*t = Task{}
	return ""
}

// ack removes the message, whichever delivery of it is acked: the broker fences
// nothing.
func (s *State) ack(r int, claim uint8) {
	if s.Messages[r].Claim == claim {
		s.Messages[r] = Message{}
	}
}

// nak lets the message be delivered again.
func (s *State) nak(r int, claim uint8) {
	if s.Messages[r].Claim == claim {
		s.Messages[r].Out = 0
	}
}

// lives is what happens to a consumer as a whole.
func (p *Protocol) lives(e *emitter, d int) {
	a := &e.from.Daemons[d]
	act := func(verb string) Action { return Action{Verb: verb, Daemon: int8(d + 1)} }
	drop := func(s *State, as Process) {
		s.Daemons[d].Process = as
		s.Daemons[d].Tasks = [requests]Task{}
	}
	switch a.Process {
	case Running, Stopping:
		e.fault(Crash, act("crash"), func(s *State) string {
			drop(s, Gone)
			return ""
		})
	case Frozen:
		e.fair(act("wake"), func(s *State) string {
			s.Daemons[d].Process = Lapsed
			return ""
		})
	case Lapsed:
		e.fair(act("fence itself"), func(s *State) string {
			drop(s, Gone)
			return ""
		})
	case Gone:
		if a.Record == Beats {
			e.fair(act("have no heartbeat for the threshold"), func(s *State) string {
				s.Daemons[d].Record = Silent
				p.record(Statement{Call: TimeSilence, Daemon: d})
				return ""
			})
		}
		if p.mayBegin(&e.from, d) {
			e.fair(act("begin as a new daemon"), func(s *State) string {
				s.Daemons[d] = Daemon{Process: Running, Record: Beats}
				p.record(Statement{Call: CallRegister, Daemon: d})
				return ""
			})
		}
	}
	if a.Process == Running {
		e.fault(Freeze, act("freeze until its heartbeat is stale"), func(s *State) string {
			s.Daemons[d].Process, s.Daemons[d].Record = Frozen, Silent
			p.record(Statement{Call: TimeSilence, Daemon: d})
			return ""
		})
		e.fault(Stop, act("begin to stop"), func(s *State) string {
			s.Daemons[d].Process = Stopping
			return ""
		})
		if e.from.Late.Kind == NoWrite {
			e.fault(Linger, Action{Verb: "heartbeat", Daemon: int8(d + 1), Detail: Lingers}, func(s *State) string {
				s.Late = Write{Kind: LateHeartbeat, Daemon: uint8(d)}
				return ""
			})
		}
	}
	if a.Process == Stopping { // what is left at the drain timeout is dropped
		e.fair(act("end"), func(s *State) string {
			drop(s, Gone)
			s.Daemons[d].Record = Over
			p.record(Statement{Call: CallEndDaemon, Daemon: d})
			return ""
		})
	}
}

// mayBegin reports whether a process may begin, under the number of a daemon of
// which nothing is left.
func (p *Protocol) mayBegin(s *State, d int) bool {
	running := 0
	for i := range s.Daemons {
		if s.Daemons[i].Process != Gone {
			running++
		}
	}
	for r := range p.Requests {
		if s.Rows[r].Daemon == uint8(d+1) {
			return false
		}
	}
	return running < consumers && (!s.Late.ofDaemon() || int(s.Late.Daemon) != d)
}
