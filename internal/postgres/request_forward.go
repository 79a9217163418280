package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

const (
	bringForwardSQL = `
WITH later AS MATERIALIZED (
    SELECT ctid AS place FROM requests
     WHERE routed_model = $1 AND due_at > now() AND ($2::uuid IS NULL OR batch_id = $2)
     ORDER BY routed_model, due_at LIMIT $3
       FOR UPDATE SKIP LOCKED
)
UPDATE requests r SET due_at = now() FROM later WHERE r.ctid = later.place`

	// forwardPage is how many requests one statement brings forward.
	forwardPage = 1000
)

// BringForward makes requests of the model due that would be later: those of one
// batch, or of all if the id is zero. It returns how many. They go in short
// statements; after an error those that are left are due as before, and calling
// again goes on.
func (s *Store) BringForward(ctx context.Context, model batch.Model, only batch.ID) (n int, err error) {
	var id *[16]byte
	if only != (batch.ID{}) {
		id = (*[16]byte)(&only)
	}
	for {
		moved, err := s.exec(ctx, bringForwardSQL, string(model), id, forwardPage)
		n += int(moved)
		if err != nil {
			return n, fmt.Errorf("bringing requests forward: %w", err)
		}
		if moved < forwardPage {
			return n, nil
		}
	}
}
