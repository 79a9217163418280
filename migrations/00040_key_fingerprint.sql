-- +goose Up

-- What tells the API key that a batch was created with from another, encrypted:
-- a batch that is created again under its idempotency key must have the same
-- one. The key itself is removed when the batch finishes. NULL: the batch has no
-- key of its own, or was created by an earlier release.
ALTER TABLE batches ADD COLUMN key_fingerprint bytea;

-- +goose Down
ALTER TABLE batches DROP COLUMN key_fingerprint;
