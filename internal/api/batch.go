package api

import (
	"context"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// batchObject is OpenAI's batch object. A time that has not come is null.
type batchObject struct {
	ID               string            `json:"id"`
	Object           string            `json:"object"`
	Endpoint         string            `json:"endpoint"`
	Errors           *struct{}         `json:"errors"` // files are checked when they are uploaded
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
	Priority         int               `json:"priority"`
	Budget           *budgetObject     `json:"budget"` // null: there is none
	// XStatus says what holds the batch up. In lists it is null.
	XStatus *statusObject `json:"x_status"`
}

// requestCounts are OpenAI's three: canceled and expired requests count as
// neither completed nor failed.
type requestCounts struct {
	Total     int64 `json:"total"`
	Completed int64 `json:"completed"`
	Failed    int64 `json:"failed"`
}

// ShownStatus is a batch's status as OpenAI would have it: there, a batch has
// failed if its file was refused, and is completed if its requests were all
// called, even if each of them failed. A large batch whose cancel is under way is
// cancelling, and so is one whose budget is spent while its last calls end.
func ShownStatus(b postgres.Batch) string {
	switch {
	case b.Status == batch.StatusFailed:
		return string(batch.StatusCompleted)
	case !b.Status.Terminal() && !cancelAt(b).IsZero():
		return statusCancelling
	}
	return string(b.Status)
}

// cancelAt is when it began that a batch is cancelled, by someone or because its
// budget was spent; zero: it is not.
func cancelAt(b postgres.Batch) time.Time {
	if b.CancellingAt.IsZero() && (!b.Status.Terminal() || b.Status == batch.StatusCancelled) {
		return b.BudgetExceededAt
	}
	return b.CancellingAt
}

// asBatch shows a batch as OpenAI would. Files are validated when they are
// uploaded and batches finish with their last result, so none is ever seen
// validating or finalizing: those take no time.
func asBatch(b postgres.Batch) batchObject {
	out := batchObject{
		ID: b.ID.String(), Object: "batch", Endpoint: b.Endpoint, InputFileID: b.File.String(),
		CompletionWindow: b.CompletionWindow, Status: ShownStatus(b),
		CreatedAt: b.CreatedAt.Unix(), InProgressAt: unix(b.CreatedAt), ExpiresAt: unix(b.ExpiresAt),
		CancellingAt: unix(cancelAt(b)), Metadata: b.Metadata, Priority: b.Priority, Budget: asBudget(b),
		RequestCounts: requestCounts{Total: b.Counts.Total, Completed: b.Counts.Completed, Failed: b.Counts.Failed}, Usage: asUsage(b.Usage),
	}
	if !b.Status.Terminal() {
		return out
	}
	ended := unix(b.FinishedAt)
	switch b.Status {
	case batch.StatusCompleted, batch.StatusFailed:
		out.FinalizingAt, out.CompletedAt = ended, ended
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

func (b batchObject) id() string { return b.ID }

// batchParams name a batch.
type batchParams struct{ id batch.ID }

func (p *batchParams) read(in *input) { p.id = in.batchID() }

func (s *Server) getBatch(ctx context.Context, who caller, p batchParams) (batchObject, error) {
	b, err := s.cfg.Store.GetBatch(ctx, p.id, &who.owner)
	if err != nil {
		return batchObject{}, err
	}
	out := asBatch(b)
	out.XStatus = s.waiting(ctx, b)
	return out, nil
}

// deleteBatch cancels the batch if it has not finished, and hides it with its
// results.
func (s *Server) deleteBatch(ctx context.Context, who caller, p batchParams) (deletedObject, error) {
	b, err := s.cfg.Store.GetBatch(ctx, p.id, who.scope())
	if err == nil {
		err = s.cfg.Controller.DeleteBatch(ctx, b.ID)
	}
	if err == nil {
		s.changed(who, "batch deleted", b)
	}
	return deletedObject{ID: p.id.String(), Object: "batch", Deleted: true}, err
}
