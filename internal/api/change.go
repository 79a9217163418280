package api

import (
	"context"
	"errors"
	"slices"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// cancelBatch ends the batch at once, so the answer shows it cancelled already.
// With a body it ends single requests of it.
func (s *Server) cancelBatch(c *call) (any, error) {
	b, err := s.ownBatch(c)
	if err != nil {
		return nil, err
	}
	if c.ContentLength != 0 {
		var some struct {
			Lines []int32 `json:"lines"`
		}
		if err := c.decode(&some); err != nil {
			return nil, err
		}
		if some.Lines != nil {
			return s.changeLines(c, b.ID, some.Lines, s.cfg.Controller.CancelRequests)
		}
	}
	_, err = s.cfg.Controller.Cancel(c.Context(), b.ID)
	if errors.Is(err, batch.ErrConflict) {
		if b, err = s.ownBatch(c); err != nil {
			return nil, err
		}
		return nil, conflict("batch_ended", "Cannot cancel a batch with status '%s'.", b.Status)
	}
	return s.changed(c, err)
}

// changed shows the batch after a change.
func (s *Server) changed(c *call, err error) (any, error) {
	if err != nil {
		return nil, orNotFound(err, "batch", c.PathValue("id"))
	}
	b, err := s.ownBatch(c)
	return asObject(b), err
}

// batchRetry is the body that retries requests; without one, those that failed.
type batchRetry struct {
	Statuses []batch.State `json:"statuses"`
	Lines    []int32       `json:"lines"`
}

// retryBatch calls requests again that did not complete. Their lines leave the
// error file.
func (s *Server) retryBatch(c *call) (any, error) {
	b, err := s.ownBatch(c)
	if err != nil {
		return nil, err
	}
	var r batchRetry
	if c.ContentLength != 0 {
		if err := c.decode(&r); err != nil {
			return nil, err
		}
	}
	if r.Lines != nil && len(r.Statuses) > 0 {
		return nil, invalid("lines", codeInvalid, "lines and statuses exclude each other.")
	}
	if len(r.Statuses) == 0 {
		r.Statuses = []batch.State{batch.Failed}
	}
	slices.Sort(r.Statuses)
	r.Statuses = slices.Compact(r.Statuses)
	for _, state := range r.Statuses {
		if state != batch.Failed && state != batch.Canceled && state != batch.Expired {
			return nil, invalid("statuses", codeInvalid, "statuses must be some of failed, canceled, expired.")
		}
	}
	if err := s.renewKey(c, b); err != nil {
		return nil, err
	}
	if r.Lines != nil {
		done, err := s.changeLines(c, b.ID, r.Lines, func(ctx context.Context, id batch.ID, lines []int32) (postgres.Lines, error) {
			return s.cfg.Controller.RerunLines(ctx, id, c.allowance, lines)
		})
		if len(done.Changed) == 0 {
			s.dropKey(c, b)
		}
		return done, notRetriable(err)
	}
	n, err := s.cfg.Controller.Rerun(c.Context(), b.ID, c.allowance, r.Statuses...)
	if n == 0 {
		s.dropKey(c, b)
	}
	if err == nil && n == 0 {
		return nil, conflict("nothing_to_retry", "The batch has no request to retry.")
	}
	return s.changed(c, notRetriable(err))
}

// notRetriable says what a conflict means in a retry.
func notRetriable(err error) error {
	if errors.Is(err, batch.ErrConflict) {
		return conflict("not_retriable", "The batch cannot be retried: its file was deleted, or it ended, or was cancelled or retried meanwhile.")
	}
	return err
}

// deleteBatch cancels the batch if it has not ended, and hides it with its
// results.
func (s *Server) deleteBatch(c *call) (any, error) {
	b, err := s.ownBatch(c)
	if err == nil {
		err = s.cfg.Controller.DeleteBatch(c.Context(), b.ID)
	}
	return deletedObject{ID: c.PathValue("id"), Object: "batch", Deleted: true}, orNotFound(err, "batch", c.PathValue("id"))
}
