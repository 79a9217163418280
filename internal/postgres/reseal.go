package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// SealedKey is the encrypted key of a batch, or the fingerprint of it.
type SealedKey struct {
	Batch  batch.ID
	Sealed []byte
}

const (
	batchKeysSQL = `SELECT batch_id, sealed FROM batch_keys WHERE batch_id > $1 ORDER BY batch_id LIMIT $2`

	fingerprintsSQL = `
SELECT id, key_fingerprint FROM batches WHERE id > $1 AND brings_key AND key_fingerprint IS NOT NULL ORDER BY id LIMIT $2`

	// What was replaced or removed meanwhile stays as it is.
	replaceModelKeySQL      = `UPDATE models SET upstream_key = $3 WHERE model = $1 AND upstream_key = $2`
	replaceModelHeadersSQL  = `UPDATE models SET upstream_headers = $3 WHERE model = $1 AND upstream_headers = $2`
	replaceWebhookSecretSQL = `UPDATE webhooks SET secret = $3 WHERE encode(uuid_send(id), 'hex') = $1 AND secret = $2`
	replaceBatchKeySQL      = `UPDATE batch_keys SET sealed = $3 WHERE batch_id = $1 AND sealed = $2`
	replaceFingerprintSQL   = `UPDATE batches SET key_fingerprint = $3 WHERE id = $1 AND key_fingerprint = $2`
)

// BatchKeys returns up to n keys of batches, in the order of their ids, from the
// one after the given id on.
func (s *Store) BatchKeys(ctx context.Context, after batch.ID, n int) ([]SealedKey, error) {
	return s.sealedKeys(ctx, batchKeysSQL, after, n)
}

// KeyFingerprints does the same for the fingerprints of keys, which outlive them.
func (s *Store) KeyFingerprints(ctx context.Context, after batch.ID, n int) ([]SealedKey, error) {
	return s.sealedKeys(ctx, fingerprintsSQL, after, n)
}

func (s *Store) sealedKeys(ctx context.Context, sql string, after batch.ID, n int) ([]SealedKey, error) {
	keys, err := collect(ctx, s, func(row pgx.CollectableRow) (k SealedKey, err error) {
		err = row.Scan((*[16]byte)(&k.Batch), &k.Sealed)
		return k, err
	}, sql, [16]byte(after), n)
	if err != nil {
		return nil, fmt.Errorf("listing the keys of batches: %w", err)
	}
	return keys, nil
}

// ReplaceModelKey replaces the encrypted key of a model if it is the old one
// still, and reports whether it was.
func (s *Store) ReplaceModelKey(ctx context.Context, model batch.Model, old, sealed []byte) (bool, error) {
	return s.replace(ctx, replaceModelKeySQL, string(model), old, sealed)
}

// ReplaceModelHeaders does the same for the headers of its endpoint.
func (s *Store) ReplaceModelHeaders(ctx context.Context, model batch.Model, old, sealed []byte) (bool, error) {
	return s.replace(ctx, replaceModelHeadersSQL, string(model), old, sealed)
}

// ReplaceWebhookSecret does the same for the secret of a webhook.
func (s *Store) ReplaceWebhookSecret(ctx context.Context, id string, old, sealed []byte) (bool, error) {
	return s.replace(ctx, replaceWebhookSecretSQL, id, old, sealed)
}

// ReplaceBatchKey does the same for the key of a batch.
func (s *Store) ReplaceBatchKey(ctx context.Context, id batch.ID, old, sealed []byte) (bool, error) {
	return s.replace(ctx, replaceBatchKeySQL, [16]byte(id), old, sealed)
}

// ReplaceKeyFingerprint does the same for the fingerprint of the key of a batch.
func (s *Store) ReplaceKeyFingerprint(ctx context.Context, id batch.ID, old, sealed []byte) (bool, error) {
	return s.replace(ctx, replaceFingerprintSQL, [16]byte(id), old, sealed)
}

func (s *Store) replace(ctx context.Context, sql string, id any, old, sealed []byte) (bool, error) {
	n, err := s.exec(ctx, sql, id, old, sealed)
	if err != nil {
		return false, fmt.Errorf("replacing what is encrypted: %w", err)
	}
	return n > 0, nil
}
