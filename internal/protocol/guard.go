package protocol

// Guard is a condition of a statement of internal/postgres that the model has as
// well, under the name that it has in e2e/mutations.
type Guard uint8

// The guards, in the order of their statements.
const (
	StartClaim Guard = iota
	StartDelivery
	StartSameDeliveryDaemon
	StartSameDelivery
	StartNotDue
	StartNotInBackoff
	StartFromDead
	StartUnprocessed
	StartFromOneself
	StartPastTimeout
	StartFromDeclaredDead
	StartFromStale
	RefusalClaim
	RefusalNotDue
	RenewalClaim
	RenewalDelivery
	RenewalProcessing
	RenewalDaemon
	ResultClaim
	ResultDelivery
	ResultProcessing
	ResultDaemon
	RetryClaim
	RetryDelivery
	RetryProcessing
	RetryDaemon
	ReleaseClaim
	ReleaseDelivery
	ReclaimProcessing
	ReclaimDead
	DeathHeartbeat
	HeartbeatNotDead
	ExpiryNotCalled
	EndUnclaimed
	EndOneBatch
	EndOneBatchCursors
	StatusCancelled
	StatusExpired
	ExpiryDeadlineListed
	ExpiryDeadlineLocked
	RerunStates
	RerunLinesNotCompleted
	RerunLinesSkipped
	RerunLinesNotLive
	RerunLinesNoResult
	DueNotCancelling
	CallNotLapsed
	guards
)

var guardNames = [guards]string{
	StartClaim:              "start: the claim",
	StartDelivery:           "start: the delivery",
	StartSameDeliveryDaemon: "start: the same delivery, by its daemon alone",
	StartSameDelivery:       "start: the same delivery again",
	StartNotDue:             "start: not what waits for a claim",
	StartNotInBackoff:       "start: not in backoff",
	StartFromDead:           "start: only from the dead",
	StartUnprocessed:        "start: what nobody processes",
	StartFromOneself:        "start: from oneself",
	StartPastTimeout:        "start: past the processing timeout",
	StartFromDeclaredDead:   "start: from who is declared dead",
	StartFromStale:          "start: from who is stale",
	RefusalClaim:            "refusal: the claim",
	RefusalNotDue:           "refusal: not what waits for a claim",
	RenewalClaim:            "renewal: the claim",
	RenewalDelivery:         "renewal: the delivery",
	RenewalProcessing:       "renewal: processing",
	RenewalDaemon:           "renewal: the daemon",
	ResultClaim:             "result: the claim",
	ResultDelivery:          "result: the delivery",
	ResultProcessing:        "result: processing",
	ResultDaemon:            "result: the daemon",
	RetryClaim:              "retry: the claim",
	RetryDelivery:           "retry: the delivery",
	RetryProcessing:         "retry: processing",
	RetryDaemon:             "retry: the daemon",
	ReleaseClaim:            "release: the claim",
	ReleaseDelivery:         "release: the delivery",
	ReclaimProcessing:       "reclaim: processing",
	ReclaimDead:             "reclaim: the dead",
	DeathHeartbeat:          "death: the heartbeat",
	HeartbeatNotDead:        "heartbeat: not of the dead",
	ExpiryNotCalled:         "expiry: not what is being called",
	EndUnclaimed:            "end: what is not claimed yet",
	EndOneBatch:             "end: of one batch",
	EndOneBatchCursors:      "end: the cursors of one batch",
	StatusCancelled:         "status: cancelled",
	StatusExpired:           "status: expired",
	ExpiryDeadlineListed:    "expiry: the deadline",
	ExpiryDeadlineLocked:    "expiry: the deadline, under the lock",
	RerunStates:             "rerun: the states",
	RerunLinesNotCompleted:  "rerun of lines: not what completed",
	RerunLinesSkipped:       "rerun of lines: what was skipped",
	RerunLinesNotLive:       "rerun of lines: what is not live",
	RerunLinesNoResult:      "rerun of lines: what has no result",
	DueNotCancelling:        "claim of what is due: not of a batch that is being cancelled",
	CallNotLapsed:           "call: not by a daemon that has lapsed",
}

// String is the name of the mutation that takes the condition out of its statement.
func (g Guard) String() string { return guardNames[g] }

// Guards returns all of them.
func Guards() []Guard {
	out := make([]Guard, guards)
	for i := range out {
		out[i] = Guard(i)
	}
	return out
}

// OfStatement reports whether the condition is one of a statement of SQL; else it
// is one of the consumer's code.
func (g Guard) OfStatement() bool { return g != CallNotLapsed }

// and is the condition of a conjunction, which holds when the guard is taken out.
func (c *Config) and(g Guard, holds bool) bool { return holds || c.without(g) }

// or is the condition of a disjunction, which does not.
func (c *Config) or(g Guard, holds bool) bool { return holds && !c.without(g) }

func (c *Config) without(g Guard) bool { return c.Without>>g&1 == 1 }

// Mutant is the configuration without one guard.
func (c Config) Mutant(g Guard) Config {
	c.Without |= 1 << g
	return c
}
