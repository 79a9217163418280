package batch

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

// Terminal reports whether the request has its result.
func (s State) Terminal() bool {
	return s == Completed || s == Failed || s == Canceled || s == Expired
}

// Rerunnable reports whether a user may put the request back to pending: it
// has its result, and that is not the answer it asked for.
func (s State) Rerunnable() bool { return s == Failed || s == Canceled || s == Expired }

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

// Terminal reports whether the batch has finished.
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
