-- +goose Up

-- Tenants, and what the HTTP API keeps about files and batches.

CREATE TABLE api_keys (
    id                  uuid        PRIMARY KEY,
    -- SHA-256 of the token: 256 random bits need no salt and no slow hash.
    hash                bytea       NOT NULL UNIQUE CHECK (octet_length(hash) = 32),
    hint                text        NOT NULL, -- how the token begins, for people to tell keys apart
    owner               text        NOT NULL CHECK (owner <> ''),
    name                text        NOT NULL DEFAULT '',
    -- What its owner may have in progress; NULL: as the server says.
    max_active_batches  int         CHECK (max_active_batches > 0),
    max_queued_requests bigint      CHECK (max_queued_requests > 0),
    created_at          timestamptz NOT NULL DEFAULT now(),
    revoked_at          timestamptz
);

ALTER TABLE batches
    -- Output and error files have no rows of their own: they are read from the
    -- results, until they are deleted or this long after the batch has ended.
    ADD COLUMN output_expires_after interval,
    ADD COLUMN output_deleted_at    timestamptz,
    ADD COLUMN error_deleted_at     timestamptz;

-- Lists, newest first: ids are UUIDv7.
CREATE INDEX files_owner ON files (created_by, id) WHERE status = 'ready';
CREATE INDEX batches_owner ON batches (created_by, id) WHERE deleted_at IS NULL;
-- What an owner has in progress. Its columns never change while the counters do.
CREATE INDEX batches_owner_live ON batches (created_by) WHERE status = 'in_progress';

-- +goose Down
DROP INDEX batches_owner_live, batches_owner, files_owner;
ALTER TABLE batches
    DROP COLUMN output_expires_after, DROP COLUMN output_deleted_at, DROP COLUMN error_deleted_at;
DROP TABLE api_keys;
