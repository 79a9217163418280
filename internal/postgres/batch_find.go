package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"
)

// CustomIDsSearched is how many requests FindCustomID compares at most.
const CustomIDsSearched = 200_000

const (
	// No index has custom ids: it would cost every upload. Files are walked from the
	// newest on until they have too many requests. The owner of a file owns all of
	// its batches.
	customIDSQL = `
WITH f AS MATERIALIZED (
    SELECT id, before < $3 AS searched
      FROM (SELECT id, sum(requests) OVER (ORDER BY id DESC) - requests AS before FROM (
                   SELECT id, requests FROM files WHERE created_by = $1 AND status = 'ready' ORDER BY created_by DESC, id DESC LIMIT 1000) n) s
)
SELECT b.id
  FROM f
 CROSS JOIN LATERAL (SELECT 1 FROM (SELECT custom_id FROM templates WHERE file_id = f.id ORDER BY file_id, line LIMIT $3) t WHERE custom_id = $2 LIMIT 1) t
 CROSS JOIN LATERAL (SELECT id, created_by FROM batches WHERE file_id = f.id AND deleted_at IS NULL ORDER BY file_id LIMIT 50) b
 WHERE f.searched AND b.created_by = $1
 LIMIT 50`
	allSearchedSQL = `
SELECT COALESCE(sum(requests), 0) <= $2 AND count(*) < 1000 FROM (
       SELECT requests FROM files WHERE created_by = $1 AND status = 'ready' ORDER BY created_by DESC, id DESC LIMIT 1000) n`
)

// FindCustomID returns an owner's batches that have a request with a custom id, up
// to 50, and whether all of the owner's files were searched: from the newest on, up
// to CustomIDsSearched requests, and of the file that reaches this its beginning.
func (s *Store) FindCustomID(ctx context.Context, owner, customID string) (found []Batch, all bool, err error) {
	if err := s.queryRow(ctx, allSearchedSQL, []any{owner, CustomIDsSearched}, &all); err != nil {
		return nil, false, wrap("looking for a custom id", err)
	}
	ids, err := collect(ctx, s, pgx.RowTo[[16]byte], customIDSQL, owner, customID, CustomIDsSearched)
	if err != nil || len(ids) == 0 {
		return nil, all, wrap("looking for a custom id", err)
	}
	found, err = collect(ctx, s, scanBatch, batchesByIDSQL, ids)
	return found, all, wrap("looking for a custom id", err)
}
