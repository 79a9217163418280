package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// BatchSearch says which batches to find. Zero fields are no condition.
type BatchSearch struct {
	Owner                     string         // empty: any
	Statuses                  []batch.Status // one of them
	Cancelling                *bool          // of those in progress: whether they are being cancelled
	Model                     string         // that some of its requests name
	MetadataKey, MetadataText string
	From, To                  time.Time // of creation, To excluded
	After                     batch.ID  // of an earlier page
	Limit                     int
}

// FoundBatches are a page of batches, newest first.
type FoundBatches struct {
	Batches []Batch
	// Next is what the next page comes after, the zero id: there is none. With
	// fewer batches than the limit it is how far the search got.
	Next batch.ID
}

const (
	// What matches may be rare among millions, so one statement looks at
	// searchWindow batches at most, and one search at searchWindows times that.
	searchWindow  = 5000
	searchWindows = 4

	searchConditionsSQL = `
   AND (cardinality($3::text[]) = 0 OR status = ANY ($3))
   AND ($11::bool IS NULL OR status <> 'in_progress' OR (cancelling_at IS NOT NULL OR budget_exceeded_at IS NOT NULL) = $11)
   AND ($4 = '' OR EXISTS (SELECT FROM cursors c WHERE c.batch_id = b.id AND c.model = $4))
   AND ($5 = '' OR metadata ->> $5 = $6)
   AND created_at >= $7 AND created_at < $8`

	searchOwnerSQL     = `SELECT id FROM batches b WHERE deleted_at IS NULL AND created_by = $9 AND id < $1 AND id >= $2` + searchConditionsSQL + ` ORDER BY id DESC LIMIT $10`
	searchAllSQL       = `SELECT id FROM batches b WHERE deleted_at IS NULL AND $9 = '' AND id < $1 AND id >= $2` + searchConditionsSQL + ` ORDER BY id DESC LIMIT $10`
	searchOwnerEndSQL  = `SELECT id FROM batches WHERE deleted_at IS NULL AND created_by = $1 AND id < $2 ORDER BY created_by DESC, id DESC OFFSET $3 LIMIT 1`
	searchAllEndSQL    = `SELECT id FROM batches WHERE $1 = '' AND id < $2 ORDER BY id DESC OFFSET $3 LIMIT 1`
	searchOwnerLiveSQL = `SELECT id FROM (SELECT id FROM batches b WHERE deleted_at IS NULL AND status = 'in_progress' AND created_by = $9 AND id < $1 AND id >= $2` + searchConditionsSQL + ` OFFSET 0) b ORDER BY id DESC LIMIT $10`
	searchAllLiveSQL   = `SELECT id FROM (SELECT id FROM batches b WHERE deleted_at IS NULL AND status = 'in_progress' AND expires_at > '-infinity' AND $9 = '' AND id < $1 AND id >= $2` + searchConditionsSQL + ` OFFSET 0) b ORDER BY id DESC LIMIT $10`

	batchesByIDSQL = batchesSQL + ` AND id = ANY ($1) ORDER BY id DESC`
)

var lastID = batch.ID(bytes.Repeat([]byte{0xff}, 16))

// FindBatches returns a page of batches. It takes no longer the more batches there
// are: of those that do not match it looks at 20,000 at most.
func (s *Store) FindBatches(ctx context.Context, q BatchSearch) (FoundBatches, error) {
	found, err := s.findBatches(ctx, q)
	if err != nil {
		return FoundBatches{}, fmt.Errorf("looking for batches: %w", err)
	}
	return found, nil
}

func (s *Store) findBatches(ctx context.Context, q BatchSearch) (out FoundBatches, err error) {
	sql, endSQL := searchAllSQL, searchAllEndSQL
	if q.Owner != "" {
		sql, endSQL = searchOwnerSQL, searchOwnerEndSQL
	}
	statuses := make([]string, len(q.Statuses))
	for i, status := range q.Statuses {
		statuses[i] = string(status)
	}
	live := slices.Equal(q.Statuses, []batch.Status{batch.StatusInProgress})
	if live { // an index has them and no others
		if sql = searchAllLiveSQL; q.Owner != "" {
			sql = searchOwnerLiveSQL
		}
	}
	at := q.After
	if at == (batch.ID{}) {
		at = lastID
	}
	from, to := q.From, q.To
	if from.IsZero() {
		from = time.Unix(0, 0)
	}
	if to.IsZero() {
		to = time.Unix(1<<40, 0)
	}
	var ids [][16]byte
	for window := 0; ; window++ {
		var end [16]byte
		last := live
		if !live {
			err = s.queryRow(ctx, endSQL, []any{q.Owner, [16]byte(at), searchWindow - 1}, &end)
			if last = errors.Is(err, batch.ErrNotFound); err != nil && !last {
				return out, err
			}
		}
		page, err := collect(ctx, s, pgx.RowTo[[16]byte], sql, [16]byte(at), end, statuses, q.Model, q.MetadataKey, q.MetadataText,
			from, to, q.Owner, q.Limit+1-len(ids), q.Cancelling)
		if err != nil {
			return out, err
		}
		if ids, at = append(ids, page...), batch.ID(end); len(ids) > q.Limit {
			ids = ids[:q.Limit]
			out.Next = batch.ID(ids[q.Limit-1])
			break
		}
		if last {
			break
		}
		if window == searchWindows-1 {
			out.Next = at
			break
		}
	}
	if len(ids) == 0 {
		return out, nil
	}
	out.Batches, err = collect(ctx, s, scanBatch, batchesByIDSQL, ids)
	slices.SortFunc(out.Batches, func(a, b Batch) int { return bytes.Compare(b.ID[:], a.ID[:]) })
	return out, err
}
