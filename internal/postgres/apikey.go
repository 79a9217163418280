package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// APIKey is a key without its token.
type APIKey struct {
	ID        string
	Hint      string // how the token begins
	Owner     string // whose files and batches it opens
	Name      string // for people
	Allowance batch.Allowance
	Admin     bool // it opens the admin routes too
	CreatedAt time.Time
	RevokedAt time.Time // zero: it is valid
}

const createAPIKeySQL = `
INSERT INTO api_keys (id, hash, hint, owner, name, max_active_batches, max_queued_requests, admin)
VALUES ($1, $2, $3, $4, $5, NULLIF($6::int, 0), NULLIF($7::bigint, 0), $8)`

// CreateAPIKey stores a key by the SHA-256 of its token, and returns its id.
// Zero fields of its allowance are left to the server.
func (s *Store) CreateAPIKey(ctx context.Context, k APIKey, hash [32]byte) (string, error) {
	id := newID()
	_, err := s.exec(ctx, createAPIKeySQL, id, hash[:], k.Hint, k.Owner, k.Name, k.Allowance.ActiveBatches, k.Allowance.QueuedRequests, k.Admin)
	if err != nil {
		return "", fmt.Errorf("creating API key: %w", err)
	}
	return fmt.Sprintf("%x", id), nil
}

const findAPIKeySQL = `
SELECT encode(uuid_send(id), 'hex'), hint, owner, name, COALESCE(max_active_batches, 0), COALESCE(max_queued_requests, 0), admin, created_at
  FROM api_keys WHERE hash = $1 AND revoked_at IS NULL`

// FindAPIKey returns the valid key whose token has this SHA-256, or
// batch.ErrNotFound. How long the index takes tells nothing about tokens: who
// could steer a look-up by its hash would have to invert the hash.
func (s *Store) FindAPIKey(ctx context.Context, hash [32]byte) (APIKey, error) {
	var k APIKey
	err := s.queryRow(ctx, findAPIKeySQL, []any{hash[:]}, &k.ID, &k.Hint, &k.Owner, &k.Name,
		&k.Allowance.ActiveBatches, &k.Allowance.QueuedRequests, &k.Admin, &k.CreatedAt)
	if err != nil {
		return APIKey{}, fmt.Errorf("looking for API key: %w", err)
	}
	return k, nil
}

const listAPIKeysSQL = `
SELECT encode(uuid_send(id), 'hex'), hint, owner, name, COALESCE(max_active_batches, 0), COALESCE(max_queued_requests, 0),
       admin, created_at, revoked_at
  FROM api_keys ORDER BY id`

// APIKeys returns all keys, oldest first, revoked ones included.
func (s *Store) APIKeys(ctx context.Context) ([]APIKey, error) {
	keys, err := collect(ctx, s, func(row pgx.CollectableRow) (k APIKey, err error) {
		err = row.Scan(&k.ID, &k.Hint, &k.Owner, &k.Name, &k.Allowance.ActiveBatches, &k.Allowance.QueuedRequests,
			&k.Admin, &k.CreatedAt, orZero(&k.RevokedAt))
		return k, err
	}, listAPIKeysSQL)
	if err != nil {
		return nil, fmt.Errorf("listing API keys: %w", err)
	}
	return keys, nil
}

// RevokeAPIKey makes a key invalid from the next request on. It returns
// batch.ErrNotFound for one that is not there or was revoked before.
func (s *Store) RevokeAPIKey(ctx context.Context, id string) error {
	n, err := s.exec(ctx, `
UPDATE api_keys SET revoked_at = now() WHERE encode(uuid_send(id), 'hex') = $1 AND revoked_at IS NULL`, id)
	if err != nil {
		return fmt.Errorf("revoking API key: %w", err)
	}
	if n == 0 {
		return fmt.Errorf("revoking API key %q: %w", id, batch.ErrNotFound)
	}
	return nil
}
