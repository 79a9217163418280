package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// Of what is claimed or being called there is no index by model: those rows are
// few, and read once.
const busyModelsSQL = `
SELECT m FROM unnest($1::text[]) AS m
 WHERE EXISTS (SELECT FROM cursors WHERE model = m AND open)
    OR EXISTS (SELECT FROM requests WHERE routed_model = m AND due_at IS NOT NULL)
 UNION
SELECT routed_model FROM requests WHERE due_at IS NULL AND routed_model = ANY ($1)`

// BusyModels returns those of the models that have requests that are not finished.
func (s *Store) BusyModels(ctx context.Context, models []batch.Model) (map[batch.Model]bool, error) {
	names := make([]string, len(models))
	for i, m := range models {
		names[i] = string(m)
	}
	found, err := collect(ctx, s, pgx.RowTo[string], busyModelsSQL, names)
	if err != nil {
		return nil, fmt.Errorf("looking for models with work: %w", err)
	}
	busy := make(map[batch.Model]bool, len(found))
	for _, m := range found {
		busy[batch.Model(m)] = true
	}
	return busy, nil
}
