-- +goose NO TRANSACTION
-- +goose Up
-- Who is signed in to the dashboard. The browser has a token of which this is the
-- hash; neither it nor this table has the API key.
CREATE TABLE IF NOT EXISTS sessions (
    hash       bytea       PRIMARY KEY CHECK (octet_length(hash) = 32), -- SHA-256 of the token
    key_id     uuid        NOT NULL REFERENCES api_keys ON DELETE CASCADE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS sessions_key ON sessions (key_id, created_at);
CREATE INDEX IF NOT EXISTS sessions_expiring ON sessions (expires_at);
-- What finished of late. The update that ends a batch writes its indexes anyway.
DROP INDEX CONCURRENTLY IF EXISTS batches_finished;
CREATE INDEX CONCURRENTLY batches_finished ON batches (finished_at) WHERE finished_at IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS batches_finished;
DROP TABLE IF EXISTS sessions;
