package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	storeOwnKeySQL = `
WITH marked AS (UPDATE batches SET brings_key = true, key_fingerprint = $3 WHERE id = $1)
INSERT INTO batch_keys (batch_id, sealed) VALUES ($1, $2)`
	fingerprintSQL = `SELECT key_fingerprint FROM batches WHERE id = $1`
	batchKeySQL    = `SELECT sealed FROM batch_keys WHERE batch_id = $1`
	setBatchKeySQL = `
INSERT INTO batch_keys (batch_id, sealed)
SELECT id, $2 FROM batches WHERE id = $1 AND brings_key AND deleted_at IS NULL
    ON CONFLICT (batch_id) DO UPDATE SET sealed = EXCLUDED.sealed`
	dropBatchKeySQL = `
DELETE FROM batch_keys k USING batches b WHERE k.batch_id = $1 AND b.id = k.batch_id AND b.status <> 'in_progress'`
)

// SealedBatchKey is the API key of a batch, encrypted, and a fingerprint of it,
// encrypted too, which stays when the key is removed.
type SealedBatchKey struct{ Key, Fingerprint []byte }

// storeOwnKey stores the API key of a batch that was just created.
func storeOwnKey(ctx context.Context, tx pgx.Tx, id batch.ID, encrypt func(batch.ID) (SealedBatchKey, error)) error {
	sealed, err := encrypt(id)
	if err != nil {
		return fmt.Errorf("encrypting its key: %w", err)
	}
	_, err = tx.Exec(ctx, storeOwnKeySQL, [16]byte(id), sealed.Key, sealed.Fingerprint)
	return err
}

// KeyFingerprint returns the encrypted fingerprint of the API key that a batch
// was created with; nil: there is none.
func (s *Store) KeyFingerprint(ctx context.Context, id batch.ID) (sealed []byte, err error) {
	if err := s.queryRow(ctx, fingerprintSQL, []any{[16]byte(id)}, &sealed); err != nil {
		return nil, fmt.Errorf("reading the fingerprint of the key of %s: %w", id, err)
	}
	return sealed, nil
}

// BatchKey returns the encrypted key of a batch in progress that has one of its own, or
// batch.ErrNotFound: the key is removed when the batch finishes.
func (s *Store) BatchKey(ctx context.Context, id batch.ID) (sealed []byte, err error) {
	if err := s.queryRow(ctx, batchKeySQL, []any{[16]byte(id)}, &sealed); err != nil {
		return nil, fmt.Errorf("reading the key of %s: %w", id, err)
	}
	return sealed, nil
}

// SetBatchKey replaces the key of a batch that has one of its own, or gives it
// again before a rerun. It returns batch.ErrNotFound if the batch has none.
func (s *Store) SetBatchKey(ctx context.Context, id batch.ID, sealed []byte) error {
	n, err := s.exec(ctx, setBatchKeySQL, [16]byte(id), sealed)
	if err == nil && n == 0 {
		err = batch.ErrNotFound
	}
	if err != nil {
		return fmt.Errorf("setting the key of %s: %w", id, err)
	}
	return nil
}

// DropBatchKey removes the key of a batch that has finished. That of a batch in
// progress stays.
func (s *Store) DropBatchKey(ctx context.Context, id batch.ID) error {
	if _, err := s.exec(ctx, dropBatchKeySQL, [16]byte(id)); err != nil {
		return fmt.Errorf("removing the key of %s: %w", id, err)
	}
	return nil
}
