package postgres

import (
	"context"
	"fmt"
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
