package api

import (
	"context"
	"slices"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	defaultListedBatches = 20
	maxListedBatches     = 100
	// maxStatusesBytes is above what all statuses are written with.
	maxStatusesBytes = 128
)

// statusCancelling is shown of a batch in progress that is being cancelled.
const statusCancelling = "cancelling"

// BatchStatuses are those that lists of batches can be asked for.
var BatchStatuses = []string{
	string(batch.StatusInProgress), statusCancelling, string(batch.StatusCompleted), string(batch.StatusFailed),
	string(batch.StatusExpired), string(batch.StatusCancelled),
}

// SearchStatuses has a search find the batches that are shown with one of the
// statuses. Those that failed are shown as completed, and so they are found as both.
func SearchStatuses(q *postgres.BatchSearch, shown ...string) {
	for _, status := range shown {
		switch status {
		case statusCancelling:
			status = string(batch.StatusInProgress)
		case string(batch.StatusCompleted):
			q.Statuses = append(q.Statuses, batch.StatusFailed)
		}
		q.Statuses = append(q.Statuses, batch.Status(status))
	}
	slices.Sort(q.Statuses)
	q.Statuses = slices.Compact(q.Statuses)
	cancelling := slices.Contains(shown, statusCancelling)
	if cancelling != slices.Contains(shown, string(batch.StatusInProgress)) {
		q.Cancelling = &cancelling
	}
}

// batchListParams ask for the batches that follow one, newest first.
type batchListParams struct {
	after    batch.ID // the zero id: from the first on
	limit    int
	statuses []string // none: any
}

func (p *batchListParams) read(in *input) {
	if after, given := in.text("after", maxIDBytes); given {
		var ok bool
		if p.after, ok = parseBatchID(after); !ok {
			in.fail(invalid("after", codeInvalid, "after must be the id of a batch."))
		}
	}
	p.limit = int(in.number("limit", defaultListedBatches, 1, maxListedBatches))
	if statuses, given := in.text("status", maxStatusesBytes); given {
		p.statuses = strings.Split(statuses, ",")
		for _, status := range p.statuses {
			if !slices.Contains(BatchStatuses, status) {
				in.fail(invalid("status", codeInvalid, "status must be one of %s, or several of them with commas between; got %s.", strings.Join(BatchStatuses, ", "), quote(status)))
			}
		}
	}
}

func (s *Server) listBatches(ctx context.Context, who caller, p batchListParams) (page[batchObject], error) {
	if len(p.statuses) > 0 {
		return s.searchBatches(ctx, who, p)
	}
	batches, err := s.cfg.Store.ListBatches(ctx, who.owner, p.after, p.limit+1)
	return pageOf(batches, p.limit, asBatch), err
}

// searchBatches lists those with one of the statuses. What it may look at for one
// page is bounded, so a page can have fewer batches than its limit, or none, and more
// follow; the next one begins after last_id as always.
func (s *Server) searchBatches(ctx context.Context, who caller, p batchListParams) (page[batchObject], error) {
	q := postgres.BatchSearch{Owner: who.owner, After: p.after, Limit: p.limit}
	SearchStatuses(&q, p.statuses...)
	found, err := s.cfg.Store.FindBatches(ctx, q)
	list := wholePage(found.Batches, asBatch)
	if found.Next != (batch.ID{}) {
		list.HasMore, list.LastID = true, optional(found.Next.String())
	}
	return list, err
}
