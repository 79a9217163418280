package protocol

// arrivesLate makes the write arrive whose sender has stopped waiting for it, or
// get lost.
func (p *Protocol) arrivesLate(e *emitter) {
	w := e.from.Late
	if w.Kind == NoWrite {
		return
	}
	r, d := int(w.Request), int(w.Daemon)
	a := Action{Verb: "have a late write arrive: ", Request: int8(r + 1), Claim: w.Task.Claim, Delivery: w.Task.Delivery}
	a.Verb += [...]string{LateStart: "the start of", LateDecision: "the decision about", LateRenewal: "the renewal of",
		LateHeartbeat: "a heartbeat", LateAck: "the ack of", LatePublish: "the publish of"}[w.Kind]
	if w.ofDaemon() {
		a.Daemon = int8(d + 1)
	}
	e.fair(a, func(s *State) (broken string) {
		s.Late = Write{}
		switch w.Kind {
		case LateStart:
			before := s.Rows[r]
			v, broken := p.start(s, d, r, w.Task)
			if again := before.Daemon == uint8(d+1) && before.Delivery == w.Task.Delivery; v == VerdictStarted && !again {
				s.lose(r, Excused)
				s.Rows[r].Stray, s.Called[r] = 1, 0
				if t := &s.Daemons[d].Tasks[r]; t.Stage >= Started && t.Claim == w.Task.Claim && t.Delivery == w.Task.Delivery {
					// An earlier try of the start was lost with Postgres's memory.
					t.Title, s.Rows[r].Stray = Owner, 0
					if t.Stage >= Calling {
						s.Called[r] = 1
					}
				}
			}
			if broken == PastAcked || broken == DeadReplaced {
				broken = "" // nobody hears the answer
			}
			return broken
		case LateDecision:
			_, broken = p.finish(s, d, r, w.Task)
			if w.Task.Title != Owner && broken == OwnerStores {
				broken = ""
			}
		case LateRenewal:
			broken = p.renew(s, d, r, w.Task)
		case LateHeartbeat:
			record := &s.Daemons[d].Record
			p.record(Statement{Call: CallHeartbeat, Daemon: d, Done: *record == Silent || *record == Beats})
			if *record == Silent || (*record == Dead || *record == Over) && p.without(HeartbeatNotDead) {
				if *record != Silent {
					broken = DeadStayDead
				}
				*record = Beats
			}
		case LateAck:
			s.ack(r, w.Task.Claim)
		case LatePublish:
			if s.Messages[r].Claim == 0 {
				s.Messages[r] = Message{Claim: w.Task.Claim}
			}
		}
		return broken
	})
	e.fair(Action{Verb: "lose a late write", Request: int8(r + 1), Claim: w.Task.Claim}, func(s *State) string {
		s.Late = Write{}
		return ""
	})
}
