package api

import (
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// batchObject is OpenAI's batch object. A time that has not come is null.
type batchObject struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Endpoint         string            `json:"endpoint"`
	Errors           *batchErrors      `json:"errors"`
	InputFileID      string            `json:"input_file_id"`
	CompletionWindow string            `json:"completion_window"`
	Status           string            `json:"status"`
	OutputFileID     *string           `json:"output_file_id"`
	ErrorFileID      *string           `json:"error_file_id"`
	CreatedAt        int64             `json:"created_at"`
	InProgressAt     *int64            `json:"in_progress_at"`
	ExpiresAt        *int64            `json:"expires_at"`
	FinalizingAt     *int64            `json:"finalizing_at"`
	CompletedAt      *int64            `json:"completed_at"`
	FailedAt         *int64            `json:"failed_at"`
	ExpiredAt        *int64            `json:"expired_at"`
	CancellingAt     *int64            `json:"cancelling_at"`
	CancelledAt      *int64            `json:"cancelled_at"`
	RequestCounts    requestCounts     `json:"request_counts"`
	Usage            usageObject       `json:"usage"`
	Metadata         map[string]string `json:"metadata"`
}

type batchErrors struct {
	Object string       `json:"object"`
	Data   []batchError `json:"data"`
}

type batchError struct {
	Code    string  `json:"code"`
	Message string  `json:"message"`
	Param   *string `json:"param"`
	Line    *int    `json:"line"`
}

// requestCounts are OpenAI's three: canceled and expired requests count as
// neither completed nor failed.
type requestCounts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// asObject shows a batch as OpenAI would. Files are validated when they are
// uploaded and batches end with their last result, so none is ever seen
// validating or finalizing: those take no time.
func asObject(b postgres.Batch) batchObject {
	out := batchObject{
		ID: b.ID.String(), Object: "batch", Endpoint: b.Endpoint, InputFileID: b.File.String(),
		CompletionWindow: b.CompletionWindow, Status: string(b.Status),
		CreatedAt: b.CreatedAt.Unix(), InProgressAt: unix(b.CreatedAt), ExpiresAt: unix(b.ExpiresAt),
		CancellingAt: unix(b.CancellingAt), Metadata: b.Metadata,
		RequestCounts: requestCounts{Total: b.Counts.Total, Completed: b.Counts.Completed, Failed: b.Counts.Failed}, Usage: asUsage(b.Usage),
	}
	if !b.Status.Terminal() {
		return out
	}
	ended := unix(b.FinishedAt)
	switch b.Status {
	case batch.StatusCompleted:
		out.FinalizingAt, out.CompletedAt = ended, ended
	case batch.StatusFailed:
		out.FailedAt = ended
		out.Errors = &batchErrors{Object: "list", Data: []batchError{{
			Code: "all_requests_failed", Message: "No request completed. The error file says why each of them failed.",
		}}}
	case batch.StatusExpired:
		out.ExpiredAt = ended
	case batch.StatusCancelled:
		out.CancelledAt = ended
	}
	if b.Counts.Completed > 0 {
		out.OutputFileID = optional(batch.ResultFile{Batch: b.ID}.String())
	}
	if b.Unsuccessful() > 0 {
		out.ErrorFileID = optional(batch.ResultFile{Batch: b.ID, Errors: true}.String())
	}
	return out
}

// ownBatch finds the caller's batch that the path names.
func (s *Server) ownBatch(c *call) (postgres.Batch, error) {
	text := c.PathValue("id")
	id, err := batch.ParseID(text)
	if err != nil {
		return postgres.Batch{}, notFound("batch", text)
	}
	b, err := s.cfg.Store.GetBatch(c.Context(), id, &c.owner)
	return b, orNotFound(err, "batch", text)
}

func (s *Server) getBatch(c *call) (any, error) {
	b, err := s.ownBatch(c)
	return asObject(b), err
}

const (
	defaultListedBatches = 20
	maxListedBatches     = 100
)

func (s *Server) listBatches(c *call) (any, error) {
	q, err := c.query()
	if err != nil {
		return nil, err
	}
	after, limit := q.text("after"), int(q.number("limit", defaultListedBatches, 1, maxListedBatches))
	if err := q.done(); err != nil {
		return nil, err
	}
	var place batch.ID
	if after != "" {
		if place, err = batch.ParseID(after); err != nil {
			return nil, invalid("after", "invalid_value", "after must be the id of a batch.")
		}
	}
	batches, err := s.cfg.Store.ListBatches(c.Context(), c.owner, place, limit+1)
	if err != nil {
		return nil, err
	}
	objects := make([]batchObject, len(batches))
	for i, b := range batches {
		objects[i] = asObject(b)
	}
	return page(objects, limit, func(b batchObject) string { return b.ID }), nil
}
