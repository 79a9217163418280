package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Weights of owners, as the table's constraint has them. An owner without one of
// their own has 1.
const MinWeight, MaxWeight = 0.01, 1000.0

// SetOwnerWeight changes an owner's weight: their share of each model, relative to
// that of the others who wait for it. Zero removes it, so that it is 1 again.
func (s *Store) SetOwnerWeight(ctx context.Context, name string, weight float64) error {
	sql, args := `
INSERT INTO users (name, weight) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET weight = $2, updated_at = now()`, []any{name, weight}
	if weight == 0 {
		sql, args = `DELETE FROM users WHERE name = $1`, []any{name}
	}
	if _, err := s.exec(ctx, sql, args...); err != nil {
		return fmt.Errorf("setting weight of user %q: %w", name, err)
	}
	return nil
}

// OwnerWeights returns the weights that were set, by user.
func (s *Store) OwnerWeights(ctx context.Context) (map[string]float64, error) {
	weights := make(map[string]float64)
	var name string
	var weight float64
	err := s.forEach(ctx, `SELECT name, weight FROM users`, nil, []any{&name, &weight}, func() { weights[name] = weight })
	if err != nil {
		return nil, fmt.Errorf("reading user weights: %w", err)
	}
	return weights, nil
}

// OwnerUse is what an owner has in progress.
type OwnerUse struct {
	Owner            string
	Keys             int   // that are valid
	Batches          int   // in progress
	Requests, Queued int64 // of those, and without a result
}

const ownersUseSQL = `
SELECT owner, sum(keys)::int, sum(batches)::int, sum(requests)::bigint, sum(queued)::bigint
  FROM (SELECT owner, 1 AS keys, 0 AS batches, 0 AS requests, 0 AS queued FROM api_keys WHERE revoked_at IS NULL
         UNION ALL
        SELECT created_by, 0, 1, total, total - completed - failed - canceled - expired
          FROM batches WHERE status = 'in_progress' AND expires_at > '-infinity') o
 GROUP BY owner ORDER BY owner LIMIT 1000`

// OwnersUse returns what the owners have in progress that have a key or a batch in
// progress, up to 1,000 of them.
func (s *Store) OwnersUse(ctx context.Context) ([]OwnerUse, error) {
	list, err := collect(ctx, s, func(row pgx.CollectableRow) (o OwnerUse, err error) {
		err = row.Scan(&o.Owner, &o.Keys, &o.Batches, &o.Requests, &o.Queued)
		return o, err
	}, ownersUseSQL)
	return list, wrap("reading what owners have in progress", err)
}
