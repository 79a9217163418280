package batch

import "fmt"

// Allowance bounds what one owner may have in progress at once. Zero fields
// bound nothing.
type Allowance struct {
	ActiveBatches  int
	QueuedRequests int64 // of all its batches, without those that have their result
}

// AllowanceError is returned for a batch that would exceed its owner's allowance.
// It is allowed when others have finished, unless Never.
type AllowanceError struct {
	What  string // "batches in progress" or "queued requests"
	Limit int64
	Have  int64 // before the new batch
	Want  int64 // by the new batch
}

// Error says how much is allowed, there and wanted.
func (e *AllowanceError) Error() string {
	return fmt.Sprintf("at most %d %s are allowed: there are %d, and the batch would add %d", e.Limit, e.What, e.Have, e.Want)
}

func (*AllowanceError) refused() {}

// Never reports whether the batch is too large even with nothing else in progress.
func (e *AllowanceError) Never() bool { return e.Want > e.Limit }

// Check returns an *AllowanceError if so many more batches and requests are
// more than an owner may have that has so much in progress already.
func (a Allowance) Check(activeBatches int, queuedRequests int64, moreBatches int, moreRequests int64) error {
	if a.ActiveBatches > 0 && moreBatches > a.ActiveBatches-activeBatches {
		return &AllowanceError{What: "batches in progress", Limit: int64(a.ActiveBatches), Have: int64(activeBatches), Want: int64(moreBatches)}
	}
	if a.QueuedRequests > 0 && moreRequests > a.QueuedRequests-queuedRequests {
		return &AllowanceError{What: "queued requests", Limit: a.QueuedRequests, Have: queuedRequests, Want: moreRequests}
	}
	return nil
}
