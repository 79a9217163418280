package operator

import (
	"context"
	"errors"
	"fmt"

	"fusillade/internal/api"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

// NewKey is an API key to be made.
type NewKey struct {
	Owner     string // whose files and batches it opens
	Name      string // what it is for
	Admin     bool
	Allowance batch.Allowance // zero: as the server's settings say
}

// Check finds out whether the key can be made.
func (k NewKey) Check() error {
	if k.Owner == "" || len(k.Owner) > maxOwnerBytes {
		return &InputError{fmt.Sprintf("--owner must have 1 to %d bytes", maxOwnerBytes)}
	}
	if k.Allowance.ActiveBatches < 0 || k.Allowance.QueuedRequests < 0 {
		return &InputError{"limits must not be negative"}
	}
	return nil
}

// CreateKey makes an API key. Only the token's hash is kept: it is returned
// this once.
func CreateKey(ctx context.Context, s *postgres.Store, k NewKey) (id, token string, err error) {
	if err := k.Check(); err != nil {
		return "", "", err
	}
	token, start, hash := api.NewToken()
	id, err = s.CreateAPIKey(ctx, postgres.APIKey{
		Hint: start, Owner: k.Owner, Name: k.Name, Admin: k.Admin, Allowance: k.Allowance,
	}, hash)
	return id, token, err
}

// RevokeKey makes a key invalid, at once.
func RevokeKey(ctx context.Context, s *postgres.Store, id string) error {
	err := s.RevokeAPIKey(ctx, id)
	if errors.Is(err, batch.ErrNotFound) {
		return &InputError{fmt.Sprintf("there is no valid key %q: see fusillade keys ls", id)}
	}
	return err
}
