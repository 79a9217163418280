package control

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// InvalidChangeError is a change of a model that cannot be made.
type InvalidChangeError struct{ Field, Text string }

func (e *InvalidChangeError) Error() string { return e.Field + " " + e.Text }

const (
	// MaxThreshold is about the longest that the database's column holds.
	MaxThreshold = 20000 * 24 * time.Hour
)

// ChangeModel changes settings of a model for the whole cluster, and wakes the
// dispatchers; a crash between the two costs one claim interval. It returns a
// *InvalidChangeError for what cannot be.
func (c *Controller) ChangeModel(ctx context.Context, model batch.Model, change postgres.ModelChange) error {
	switch {
	case change.Limit != nil && change.Limit.Most() > batch.MaxLimit:
		return &InvalidChangeError{"limit", fmt.Sprintf("must be at most %d", batch.MaxLimit)}
	case !isRate(change.RequestsPerMinute):
		return &InvalidChangeError{"requests_per_minute", fmt.Sprintf("must be from 0 to %d", int64(batch.MaxRate))}
	case !isRate(change.TokensPerMinute):
		return &InvalidChangeError{"tokens_per_minute", fmt.Sprintf("must be from 0 to %d", int64(batch.MaxRate))}
	case change.EscalateTo != nil && *change.EscalateTo == model:
		return &InvalidChangeError{"escalates_to", "must be another model"}
	case change.EscalateBefore != nil && (*change.EscalateBefore < time.Second || *change.EscalateBefore > MaxThreshold):
		return &InvalidChangeError{"escalates_before_seconds", fmt.Sprintf("must be from 1 to %d", int64(MaxThreshold/time.Second))}
	case change.DefaultEscalation && (change.EscalateTo != nil || change.EscalateBefore != nil):
		return &InvalidChangeError{"default_escalation", "excludes an escalation of the model's own"}
	}
	if err := c.cfg.Store.ChangeModel(ctx, model, change); err != nil {
		return err
	}
	c.wake()
	return nil
}

func isRate(n *int64) bool { return n == nil || *n >= 0 && *n <= batch.MaxRate }
