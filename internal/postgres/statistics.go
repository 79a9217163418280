package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// TableStatistics are how large a table is and what happened to its rows, as Postgres
// counts: sizes are exact, rows are an estimate, and counts lag by a second.
type TableStatistics struct {
	Table      string `json:"table"`
	HeapBytes  int64  `json:"heap_bytes"`
	IndexBytes int64  `json:"index_bytes"`
	TOASTBytes int64  `json:"toast_bytes"` // with its index
	Live       int64  `json:"live_rows"`   // rows
	Dead       int64  `json:"dead_rows"`   // versions of rows that no vacuum has removed yet
	Inserted   int64  `json:"inserted"`    // rows since the server's counters began, as the next ones
	Updated    int64  `json:"updated"`
	HotUpdated int64  `json:"hot_updated"` // of them without new index entries
	Deleted    int64  `json:"deleted"`
	Vacuums    int64  `json:"vacuums"` // automatic ones
}

const (
	tableStatisticsSQL = `
SELECT relname, pg_relation_size(relid), pg_indexes_size(relid),
       pg_total_relation_size(relid) - pg_relation_size(relid) - pg_indexes_size(relid),
       n_live_tup, n_dead_tup, n_tup_ins, n_tup_upd, n_tup_hot_upd, n_tup_del, autovacuum_count
  FROM pg_stat_user_tables
 WHERE schemaname = current_schema() AND relname IN ('templates', 'batches', 'cursors', 'requests', 'results')
 ORDER BY array_position('{templates,batches,cursors,requests,results}', relname::text)`

	vacuumingSQL = `
SELECT EXISTS (SELECT FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND datname = current_database())`

	remainsSQL = `
SELECT EXISTS (SELECT FROM batches WHERE id = $1) OR EXISTS (SELECT FROM cursors WHERE batch_id = $1)
    OR EXISTS (SELECT FROM requests WHERE batch_id = $1) OR EXISTS (SELECT FROM results WHERE batch_id = $1)
    OR EXISTS (SELECT FROM files WHERE id = $2) OR EXISTS (SELECT FROM file_models WHERE file_id = $2)
    OR EXISTS (SELECT FROM templates WHERE file_id = $2)`
)

// TableStatistics are those of the tables that grow with the number of requests.
// For measuring.
func (s *Store) TableStatistics(ctx context.Context) ([]TableStatistics, error) {
	tables, err := collect(ctx, s, func(row pgx.CollectableRow) (t TableStatistics, err error) {
		err = row.Scan(&t.Table, &t.HeapBytes, &t.IndexBytes, &t.TOASTBytes, &t.Live, &t.Dead,
			&t.Inserted, &t.Updated, &t.HotUpdated, &t.Deleted, &t.Vacuums)
		return t, err
	}, tableStatisticsSQL)
	if err != nil {
		return nil, fmt.Errorf("reading statistics of tables: %w", err)
	}
	return tables, nil
}

// Vacuuming reports whether an automatic vacuum is at work in this database.
func (s *Store) Vacuuming(ctx context.Context) (at bool, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.QueryRow(ctx, vacuumingSQL).Scan(&at); err != nil {
		return false, fmt.Errorf("looking for vacuums: %w", err)
	}
	return at, nil
}

// Remains reports whether a row is left of the batch or the file: false once both
// were deleted and purged.
func (s *Store) Remains(ctx context.Context, id batch.ID, file batch.FileID) (left bool, err error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	if err := s.db.QueryRow(ctx, remainsSQL, [16]byte(id), [16]byte(file)).Scan(&left); err != nil {
		return false, fmt.Errorf("looking for what is left of %s: %w", id, err)
	}
	return left, nil
}
