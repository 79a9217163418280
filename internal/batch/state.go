package batch

import "slices"

// State is where a request is in its life.
type State string

// The states of a request.
const (
	Pending    State = "pending"
	Claimed    State = "claimed"
	Processing State = "processing"
	Completed  State = "completed"
	Failed     State = "failed"
	Canceled   State = "canceled"
	Expired    State = "expired"
)

// moves lists the legal successors of each state. Leaving a terminal state
// takes an explicit retry by a user.
var moves = map[State][]State{
	Pending:    {Claimed, Processing, Canceled, Expired},
	Claimed:    {Pending, Processing, Canceled, Expired},
	Processing: {Pending, Processing, Completed, Failed, Canceled, Expired},
	Completed:  nil,
	Failed:     {Pending},
	Canceled:   {Pending},
	Expired:    {Pending},
}

// Terminal reports whether the request has its result.
func (s State) Terminal() bool {
	return s == Completed || s == Failed || s == Canceled || s == Expired
}

// CanMove reports whether a request may go from s to next. Pending to
// processing is a retry whose message waited out its backoff in the stream;
// processing to processing is a takeover from a dead daemon.
func (s State) CanMove(next State) bool { return slices.Contains(moves[s], next) }

// Status is where a batch is in its life, spelled as OpenAI spells it.
type Status string

// The statuses of a batch.
const (
	StatusInProgress Status = "in_progress"
	StatusCompleted  Status = "completed"
	StatusFailed     Status = "failed"
	StatusCancelled  Status = "cancelled"
	StatusExpired    Status = "expired"
)

// Final reports whether the batch has ended.
func (s Status) Terminal() bool { return s != StatusInProgress }

// Counts are a batch's requests by state. They sum to Total at every instant
// they are read.
type Counts struct {
	Total      int64
	Pending    int64 // never claimed yet
	InProgress int64 // claimed and not ended: queued in the stream, being called, or backing off
	Completed  int64
	Failed     int64
	Canceled   int64
	Expired    int64
}

// Done is the number of requests that have their result.
func (c Counts) Done() int64 { return c.Completed + c.Failed + c.Canceled + c.Expired }

// Outcome is the status of a batch all of whose requests ended by being
// called: completed if any of them completed, else failed.
func (c Counts) Outcome() Status {
	if c.Completed > 0 {
		return StatusCompleted
	}
	return StatusFailed
}
