package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// SetModelLimit changes a model's concurrency limit for the whole cluster.
// Zero removes it, so that the environment's default applies again.
func (s *Store) SetModelLimit(ctx context.Context, model batch.Model, limit int) error {
	const sql = `
INSERT INTO models (model, concurrency_limit) VALUES ($1, NULLIF($2, 0))
ON CONFLICT (model) DO UPDATE SET concurrency_limit = NULLIF($2, 0), updated_at = now()`
	if _, err := s.exec(ctx, sql, string(model), limit); err != nil {
		return fmt.Errorf("setting limit of model %q: %w", model, err)
	}
	return nil
}

// ModelLimits returns the limits that operators have set.
func (s *Store) ModelLimits(ctx context.Context) (map[batch.Model]int, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT model, concurrency_limit FROM models WHERE concurrency_limit IS NOT NULL`)
	if err != nil {
		return nil, fmt.Errorf("reading model limits: %w", err)
	}
	limits := make(map[batch.Model]int)
	var model string
	var limit int
	if _, err := pgx.ForEachRow(rows, []any{&model, &limit}, func() error {
		limits[batch.Model(model)] = limit
		return nil
	}); err != nil {
		return nil, fmt.Errorf("reading model limits: %w", err)
	}
	return limits, nil
}
