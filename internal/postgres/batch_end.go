package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// EndedBatch is a batch of which requests were ended from outside.
type EndedBatch struct {
	Batch    batch.ID
	Requests int  // that ended now
	Finished bool // the batch has finished with them; else calls are in flight
}

// outsidePass says which batches a pass ends from outside, and how.
type outsidePass struct {
	listSQL  string // ids of batches that are due; its last parameters are how many to pass over and how many to list
	isDueSQL string // whether the batch $1 is due: asked again under its lock
	args     []any  // first of listSQL, and behind the batch of isDueSQL
	as       outsideEnd

	list, end string // what fails, in errors
}

// maxFailures is after how many batches that fail a pass over batches gives up.
const maxFailures = 1000

// endBatches ends what is left of up to n batches that are due, but for the requests
// that are processing.
//
// It returns the batches of which something ended, also with an error: one
// that fails does not keep it from the others, of which it then looks at more
// than n. A batch with very many live requests takes several transactions; after a
// crash in between the next call goes on.
func (s *Store) endBatches(ctx context.Context, n int, p outsidePass) ([]EndedBatch, error) {
	var out []EndedBatch
	var failed []error
	for ctx.Err() == nil {
		// Those that failed are listed again, first, and passed over.
		ids, err := s.batchIDs(ctx, p.listSQL, append(p.args[:len(p.args):len(p.args)], len(failed), n)...)
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", p.list, err))
			break
		}
		before := len(failed)
		for _, id := range ids {
			e, err := s.endBatch(ctx, id, p)
			if err != nil && !errors.Is(err, batch.ErrNotFound) { // deleted since
				failed = append(failed, fmt.Errorf("%s %s: %w", p.end, id, err))
			}
			if e.Requests > 0 {
				out = append(out, e)
			}
		}
		if len(ids) < n || len(failed) == before || len(failed) >= maxFailures {
			break
		}
	}
	return out, errors.Join(failed...)
}

func (s *Store) endBatch(ctx context.Context, id batch.ID, p outsidePass) (EndedBatch, error) {
	e := EndedBatch{Batch: id}
	for more := true; more; {
		var done slice
		err := s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) (err error) {
			done, err = s.endSlice(ctx, tx, id, p)
			return err
		})
		if err != nil {
			return e, err
		}
		e.Requests += done.finished
		e.Finished = done.status.Terminal()
		more = done.full && !e.Finished
	}
	return e, nil
}

// endSlice is what one transaction of a pass does.
func (s *Store) endSlice(ctx context.Context, tx pgx.Tx, id batch.ID, p outsidePass) (done slice, err error) {
	if _, err := lockBatch(ctx, tx, id); err != nil {
		return done, err
	}
	var due bool
	if err := tx.QueryRow(ctx, p.isDueSQL, append([]any{[16]byte(id)}, p.args...)...).Scan(&due); err != nil || !due {
		return done, err
	}
	return s.finishSlice(ctx, tx, id, p.as)
}

func (s *Store) batchIDs(ctx context.Context, sql string, args ...any) ([]batch.ID, error) {
	return collect(ctx, s, func(row pgx.CollectableRow) (id batch.ID, err error) {
		err = row.Scan((*[16]byte)(&id))
		return id, err
	}, sql, args...)
}
