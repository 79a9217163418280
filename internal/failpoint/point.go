package failpoint

// Point is an instant in the code.
type Point string

// In a dispatcher.
const (
	// Claimed: the claim is committed, nothing is published.
	Claimed Point = "claimed"
	// Published: messages were sent, their acks are not read.
	Published Point = "published"
	// Reclaimed: requests of a dead daemon are pending again, their messages and
	// its slots are still there.
	Reclaimed Point = "reclaimed"
	// Purging: some rows of a deleted batch or file are gone.
	Purging Point = "purging"
)

// In a consumer.
const (
	// Received: a message has come, its request is not started.
	Received Point = "received"
	// Started: the start is committed, the call not begun.
	Started Point = "started"
	// Calling: a call begins.
	Calling Point = "calling"
	// Called: calls have ended, their outcomes are not written.
	Called Point = "called"
	// Finished: results and retries are committed, the broker was not told.
	Finished Point = "finished"
	// Owed: results are committed, the program that is owed a call of each has had
	// none.
	Owed Point = "owed"
	// Answered: the program was called and has returned, which Postgres was not told.
	Answered Point = "answered"
	// Within: the program was called in the transaction that writes results, which is
	// not committed.
	Within Point = "within"
	// Returned: a retry is committed, its message not released.
	Returned Point = "returned"
)

// In others.
const (
	// Cancelled: a cancel is committed, messages and calls in flight are left.
	Cancelled Point = "cancelled"
	// Beaten: a heartbeat is in Postgres and not in the bucket.
	Beaten Point = "beaten"
)
