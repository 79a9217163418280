package protocol

// Statement is what a step does in Postgres: a call of a method of postgres.Store,
// or what time does to a row.
type Statement struct {
	Call    Call
	Request int // from 0
	Batch   int
	Daemon  int
	Task    Task
	Due     uint8 // of a release: as that of a Row
	// Done: it has changed something, or has listed what it is about.
	Done    bool
	Verdict Verdict // of a start
}

// Call says which method.
type Call uint8

// The calls of a Statement.
const (
	CallClaim Call = iota + 1
	CallClaimDue
	CallStart
	CallFinish
	CallRenewStarts
	CallCheckLiveness
	CallReleaseClaims
	CallReclaim
	CallOverdue
	CallDeclareDead
	CallHeartbeat
	CallRegister
	CallEndDaemon
	CallCancelSlice
	CallFindExpired
	CallExpireSlice
	CallCancelRequests
	CallRerunRequests
	CallRerunLines
	TimeSilence  // a heartbeat gets old
	TimeOvertime // the processing timeout passes
	TimeBackoff  // a backoff ends
	TimeDeadline // a deadline passes
)

// Recorded is the model whose steps say what they do in Postgres, and whose states
// keep the numbers of daemons and deliveries. It has no end of states, and is for
// random walks.
func Recorded(c Config) *Protocol { return &Protocol{Config: c, recorded: true} }

func (p *Protocol) record(s Statement) {
	if p.recorded {
		p.log = append(p.log, s)
	}
}

// Statements are what the step that was emitted last does in Postgres, in order.
func (p *Protocol) Statements() []Statement { return p.log }
