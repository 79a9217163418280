package operator

import (
	"context"
	"fmt"

	"github.com/nats-io/nats.go"

	"fusillade/internal/postgres"
	"fusillade/streams"
)

// CheckWeight finds out whether an owner can have a weight; 0 removes it.
func CheckWeight(owner string, weight float64) error {
	if owner == "" {
		return &InputError{"NAME must not be empty"}
	}
	if weight != 0 && !(weight >= postgres.MinWeight && weight <= postgres.MaxWeight) {
		return &InputError{fmt.Sprintf("--weight must be 0, or from %v to %v", postgres.MinWeight, postgres.MaxWeight)}
	}
	return nil
}

// SetOwnerWeight changes an owner's share of each model, and wakes the
// dispatchers.
func SetOwnerWeight(ctx context.Context, s *postgres.Store, conn *nats.Conn, owner string, weight float64) error {
	if err := CheckWeight(owner, weight); err != nil {
		return err
	}
	if err := s.SetOwnerWeight(ctx, owner, weight); err != nil {
		return err
	}
	hint(conn, streams.HintWork)
	return nil
}
