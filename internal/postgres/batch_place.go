package postgres

import (
	"context"
	"fmt"

	"fusillade/internal/batch"
)

// BatchPlace is where a batch stands among its owner's.
type BatchPlace struct {
	// Ahead are the requests, of the same models, in batches of the same owner that
	// are claimed before.
	Ahead int64
	// PerSecond is how many requests of those models have had their results a second,
	// of late, in the batches that stand first; 0: none had.
	PerSecond float64
}

const (
	// placeModels is how many models of a batch are looked at, placeBatches how many
	// batches ahead for each, and placeRates how many of these for their rate, of each
	// the latest placeResults results within placeSeconds.
	placeModels  = 10
	placeBatches = 1000
	placeRates   = 10
	placeResults = 1000
	placeSeconds = 60
)

// In the order of claims, from the index of that order: those of a higher priority,
// and of the same one those with an earlier deadline.
const batchPlaceSQL = `
WITH mine AS MATERIALIZED (
    SELECT model, created_by, priority, expires_at FROM cursors WHERE batch_id = $1 AND open ORDER BY batch_id, model LIMIT $2
), ahead AS MATERIALIZED (
    SELECT m.model, a.batch_id, a.waiting, row_number() OVER (PARTITION BY m.model ORDER BY a.priority DESC, a.expires_at) AS place
      FROM mine m
     CROSS JOIN LATERAL (
           (SELECT batch_id, total - claimed - skipped AS waiting, priority, expires_at FROM cursors
             WHERE model = m.model AND created_by = m.created_by AND open AND priority > m.priority
             ORDER BY model, created_by, priority DESC, expires_at LIMIT $3)
            UNION ALL
           (SELECT batch_id, total - claimed - skipped, priority, expires_at FROM cursors
             WHERE model = m.model AND created_by = m.created_by AND open AND priority = m.priority AND expires_at < m.expires_at
             ORDER BY model, created_by, priority DESC, expires_at LIMIT $3)) a
), recent AS MATERIALIZED (
    SELECT count(*) AS n, extract(epoch FROM now() - min(r.finished_at)) AS seconds
      FROM ahead a
     CROSS JOIN LATERAL (
           SELECT finished_at, routed_model FROM results WHERE batch_id = a.batch_id ORDER BY batch_id DESC, seq DESC LIMIT $5) r
     WHERE a.place <= $4 AND r.routed_model = a.model AND r.finished_at > now() - $6 * interval '1 s'
     GROUP BY a.model, a.batch_id
)
SELECT (SELECT COALESCE(sum(waiting), 0)::bigint FROM ahead),
       (SELECT COALESCE(sum(n / greatest(seconds, 1)), 0)::float8 FROM recent)`

// BatchPlace reads where a batch in progress stands. What it reads is bounded: beyond
// some models, or a thousand batches ahead, it is too low.
func (s *Store) BatchPlace(ctx context.Context, id batch.ID) (p BatchPlace, err error) {
	err = s.queryRow(ctx, batchPlaceSQL, []any{[16]byte(id), placeModels, placeBatches, placeRates, placeResults, placeSeconds}, &p.Ahead, &p.PerSecond)
	if err != nil {
		return p, fmt.Errorf("reading the place of a batch: %w", err)
	}
	return p, nil
}
