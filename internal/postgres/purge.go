package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	// A file expires when its time is over and that of its batches too: none is
	// in progress, and the last of them ended as long ago as the file was to
	// live. Locked before it is looked at again, so that no batch of it is
	// created or retried meanwhile.
	expirableFilesSQL = `
SELECT id FROM files f
 WHERE expires_at <= now() AND status IN ('ready', 'deleted') AND requests > 0
   AND (status = 'ready' OR EXISTS (SELECT FROM batches WHERE file_id = f.id AND deleted_at IS NULL))
   AND ` + noRecentBatchSQL + `
 ORDER BY expires_at LIMIT $1
   FOR NO KEY UPDATE SKIP LOCKED`
	noRecentBatchSQL = `NOT EXISTS (
       SELECT FROM batches WHERE file_id = f.id AND deleted_at IS NULL
          AND (finished_at IS NULL OR finished_at > now() - (f.expires_at - f.created_at)))`

	expireFilesSQL = `
WITH expired AS (
    UPDATE files f SET status = 'deleted', deleted_at = COALESCE(deleted_at, now())
     WHERE id = ANY ($1::uuid[]) AND ` + noRecentBatchSQL + `
    RETURNING id
), batches AS (
    UPDATE batches b SET deleted_at = now(), idempotency_key = NULL
      FROM expired e WHERE b.file_id = e.id AND b.deleted_at IS NULL AND b.status <> 'in_progress'
)
SELECT count(*) FROM expired`

	deletedBatchesSQL = `
SELECT id FROM batches WHERE deleted_at IS NOT NULL ORDER BY deleted_at, id LIMIT $1`

	// Deleted files of which there is something left to remove: all, or, where
	// batches need the custom ids, the bodies.
	deletedFilesSQL = `
SELECT id FROM files f
 WHERE status = 'deleted' AND requests > 0
   AND (NOT EXISTS (SELECT FROM batches WHERE file_id = f.id)
        OR EXISTS (SELECT FROM templates WHERE file_id = f.id AND line > f.erased_line))
 ORDER BY deleted_at LIMIT $1`

	// One purge at a time has a batch or a file: a delete that finds nothing must
	// mean that nothing is left.
	takeBatchSQL = `
SELECT true FROM batches WHERE id = $1 AND deleted_at IS NOT NULL FOR UPDATE SKIP LOCKED`
	takeFileSQL = `
SELECT EXISTS (SELECT FROM batches WHERE file_id = files.id) FROM files WHERE id = $1 AND status = 'deleted' FOR UPDATE SKIP LOCKED`

	purgeCursorsSQL = `
DELETE FROM cursors WHERE batch_id = $1
   AND model <= (SELECT max(model) FROM (SELECT model FROM cursors WHERE batch_id = $1 ORDER BY model LIMIT $2) t)`

	purgeCallbacksSQL = `
DELETE FROM callbacks WHERE batch_id = $1
   AND seq <= (SELECT max(seq) FROM (SELECT seq FROM callbacks WHERE batch_id = $1 ORDER BY seq LIMIT $2) t)`

	// The bodies of the next lines, and how far that is.
	eraseBodiesSQL = `
WITH last AS (
    SELECT max(line) AS line FROM (
           SELECT t.line FROM files f
            CROSS JOIN LATERAL (
                  SELECT line FROM templates WHERE file_id = f.id AND line > f.erased_line ORDER BY file_id, line LIMIT $2) t
            WHERE f.id = $1 AND f.status = 'deleted') l
), marked AS (
    UPDATE files f SET erased_line = last.line FROM last WHERE f.id = $1 AND last.line IS NOT NULL
)
UPDATE templates t SET body = '' FROM files f, last
 WHERE f.id = $1 AND t.file_id = f.id AND t.line > f.erased_line AND t.line <= last.line`
)

// rowsOf is a delete of up to $2 rows of a batch, or of a file, after line $3, in a
// table keyed by it and the line.
func rowsOf(table, key string) string {
	return `
WITH gone AS (
    DELETE FROM ` + table + ` WHERE ` + key + ` = $1 AND line > $3
       AND line <= (SELECT max(line) FROM (SELECT line FROM ` + table + ` WHERE ` + key + ` = $1 AND line > $3 ORDER BY line LIMIT $2) t)
    RETURNING line
)
SELECT count(*), COALESCE(max(line), 0) FROM gone`
}

// purgeLines and then purgeRest empty the tables of a batch, one after the other; its
// own row, by which the next purge finds the rest after a crash, goes last.
var (
	purgeLines        = []string{rowsOf("results", "batch_id"), rowsOf("requests", "batch_id")}
	purgeRest         = []string{purgeCallbacksSQL, purgeCursorsSQL}
	purgeTemplatesSQL = rowsOf("templates", "file_id")
)

// PurgePlace is how far the purge of one batch or file has come: zero, then as a call
// leaves it. Deletes that began at the first line each time would walk over the index
// entries of all that they deleted before, until a vacuum removes them: each would
// cost more than the last, and ten million rows would take hours.
type PurgePlace struct {
	emptied int   // tables of purgeLines
	line    int32 // of the next one: the last that was removed
}

// remove deletes up to n rows after the place, and moves it. It begins anew when it
// finds no more, so none means that nothing is left, also of what a delete that was
// rolled back has counted.
func (p *PurgePlace) remove(ctx context.Context, tx pgx.Tx, sql string, id [16]byte, n int) (removed int, err error) {
	for {
		from := p.line
		err := tx.QueryRow(ctx, sql, id, n, from).Scan(&removed, &p.line)
		if err != nil || removed > 0 || from == 0 {
			return removed, err
		}
	}
}

// ExpireFiles deletes up to n files whose time is over, and their batches with
// them. A file's time is over at its expires_at, but not before all of its
// batches have ended and each could be read for as long as the file was to
// live. It returns how many files expired.
func (s *Store) ExpireFiles(ctx context.Context, n int) (expired int, err error) {
	err = s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, expirableFilesSQL, n)
		ids, err := pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		if err != nil || len(ids) == 0 {
			return err
		}
		return tx.QueryRow(ctx, expireFilesSQL, ids).Scan(&expired)
	})
	if err != nil {
		return 0, fmt.Errorf("expiring files: %w", err)
	}
	return expired, nil
}

// DeletedBatches lists up to n batches that wait for a purge.
func (s *Store) DeletedBatches(ctx context.Context, n int) ([]batch.ID, error) {
	ids, err := s.batchIDs(ctx, deletedBatchesSQL, n)
	if err != nil {
		return nil, fmt.Errorf("listing deleted batches: %w", err)
	}
	return ids, nil
}

// PurgeBatch removes up to n rows of a deleted batch. It returns how many it
// removed; none: nothing is left of the batch, or another is purging it. A
// batch that is not deleted is left alone.
func (s *Store) PurgeBatch(ctx context.Context, id batch.ID, at *PurgePlace, n int) (removed int, err error) {
	err = s.inPurge(ctx, takeBatchSQL, [16]byte(id), func(ctx context.Context, tx pgx.Tx, _ bool) error {
		for ; at.emptied < len(purgeLines); at.emptied++ {
			if removed, err = at.remove(ctx, tx, purgeLines[at.emptied], id, n); err != nil || removed > 0 {
				return err
			}
		}
		for _, sql := range purgeRest {
			tag, err := tx.Exec(ctx, sql, [16]byte(id), n)
			if removed = int(tag.RowsAffected()); err != nil || removed > 0 {
				return err
			}
		}
		tag, err := tx.Exec(ctx, `DELETE FROM batches WHERE id = $1`, [16]byte(id))
		removed = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purging %s: %w", id, err)
	}
	return removed, nil
}

// inPurge runs f with the thing's row locked, and with what takeSQL says about
// it; not at all if it is gone, not deleted, or locked by another purge.
func (s *Store) inPurge(ctx context.Context, takeSQL string, id [16]byte, f func(context.Context, pgx.Tx, bool) error) error {
	return s.inTx(ctx, func(ctx context.Context, tx pgx.Tx) error {
		var needed bool
		err := tx.QueryRow(ctx, takeSQL, id).Scan(&needed)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
		return f(ctx, tx, needed)
	})
}

// DeletedFiles lists up to n files that wait for a purge.
func (s *Store) DeletedFiles(ctx context.Context, n int) ([]batch.FileID, error) {
	ids, err := s.batchIDs(ctx, deletedFilesSQL, n)
	if err != nil {
		return nil, fmt.Errorf("listing deleted files: %w", err)
	}
	files := make([]batch.FileID, len(ids))
	for i, id := range ids {
		files[i] = batch.FileID(id)
	}
	return files, nil
}

// PurgeFile removes up to n rows of a deleted file. As long as there are
// batches of it, it erases the bodies of up to n requests instead. It returns
// how many rows it removed or erased; none: there is nothing left to do, or
// another is purging it. A file that is not deleted is left alone.
func (s *Store) PurgeFile(ctx context.Context, id batch.FileID, at *PurgePlace, n int) (removed int, err error) {
	err = s.inPurge(ctx, takeFileSQL, [16]byte(id), func(ctx context.Context, tx pgx.Tx, needed bool) error {
		if needed {
			tag, err := tx.Exec(ctx, eraseBodiesSQL, [16]byte(id), n)
			removed = int(tag.RowsAffected())
			return err
		}
		if removed, err = at.remove(ctx, tx, purgeTemplatesSQL, id, n); err != nil || removed > 0 {
			return err
		}
		tag, err := tx.Exec(ctx, `DELETE FROM files WHERE id = $1`, [16]byte(id)) // its models go with it
		removed = int(tag.RowsAffected())
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("purging %s: %w", id, err)
	}
	return removed, nil
}
