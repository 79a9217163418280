package postgres

import (
	"context"

	"fusillade/internal/batch"
)

// claimAnyDue claims up to n requests that are due, of whatever batch and kind.
func (s *Store) claimAnyDue(ctx context.Context, model batch.Model, n int, e Escalations) ([]ClaimedRequest, error) {
	due, _, err := s.DueBatches(ctx, model, batch.ID{})
	if err != nil {
		return nil, err
	}
	var quotas []Quota
	for _, d := range due {
		if n > 0 {
			quotas = append(quotas, Quota{Kind: d.Kind, Batch: d.Batch, N: min(n, d.Remaining)})
			n -= min(n, d.Remaining)
		}
	}
	return s.ClaimDue(ctx, model, quotas, e)
}
