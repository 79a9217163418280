package postgres

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

// maxSessions is how many of one API key are kept: one more ends the oldest.
const maxSessions = 32

const (
	createSessionSQL = `
WITH expired AS (
    DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE expires_at <= now() ORDER BY expires_at LIMIT 100)
), surplus AS (
    DELETE FROM sessions WHERE hash IN (SELECT hash FROM sessions WHERE key_id = (SELECT id FROM api_keys WHERE hash = $2)
                                         ORDER BY key_id DESC, created_at DESC OFFSET $4 - 1)
)
INSERT INTO sessions (hash, key_id, expires_at)
SELECT $1, id, now() + $3::interval FROM api_keys WHERE hash = $2 AND revoked_at IS NULL`

	findSessionSQL = `
SELECT encode(uuid_send(k.id), 'hex'), k.hint, k.owner, k.name, COALESCE(k.max_active_batches, 0), COALESCE(k.max_queued_requests, 0), k.admin, k.created_at
  FROM sessions s JOIN api_keys k ON k.id = s.key_id
 WHERE s.hash = $1 AND s.expires_at > now() AND k.revoked_at IS NULL`

	renewSessionSQL = `
UPDATE sessions SET expires_at = now() + $2::interval WHERE hash = $1 AND expires_at > now() AND expires_at < now() + $2::interval / 2`
)

// CreateSession begins a session of the valid API key whose token has the SHA-256
// key: who has the token of which hash is the SHA-256 acts for the key's owner, for
// as long as ttl, or until the key is revoked. It returns batch.ErrNotFound for a
// key that is not valid.
func (s *Store) CreateSession(ctx context.Context, hash, key [32]byte, ttl time.Duration) error {
	n, err := s.exec(ctx, createSessionSQL, hash[:], key[:], ttl, maxSessions)
	if err == nil && n == 0 {
		err = batch.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("beginning a session: %w", err)
	}
	return nil
}

// FindSession returns the valid API key of a session that goes on, or
// batch.ErrNotFound.
func (s *Store) FindSession(ctx context.Context, hash [32]byte) (APIKey, error) {
	var k APIKey
	err := s.queryRow(ctx, findSessionSQL, []any{hash[:]}, &k.ID, &k.Hint, &k.Owner, &k.Name,
		&k.Allowance.ActiveBatches, &k.Allowance.QueuedRequests, &k.Admin, &k.CreatedAt)
	if err != nil {
		return APIKey{}, fmt.Errorf("looking for a session: %w", err)
	}
	return k, nil
}

// RenewSession has a session go on for ttl from now, if less than half of that is
// left, and reports whether it did.
func (s *Store) RenewSession(ctx context.Context, hash [32]byte, ttl time.Duration) (bool, error) {
	n, err := s.exec(ctx, renewSessionSQL, hash[:], ttl)
	if err != nil {
		return false, fmt.Errorf("renewing a session: %w", err)
	}
	return n > 0, nil
}

// EndSession ends a session, if there is one.
func (s *Store) EndSession(ctx context.Context, hash [32]byte) error {
	if _, err := s.exec(ctx, `DELETE FROM sessions WHERE hash = $1`, hash[:]); err != nil {
		return fmt.Errorf("ending a session: %w", err)
	}
	return nil
}
