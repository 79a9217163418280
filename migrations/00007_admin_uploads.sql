-- +goose Up

-- Keys of operators open the admin routes of the API besides.
ALTER TABLE api_keys ADD COLUMN admin boolean NOT NULL DEFAULT false;

-- Files that are uploaded in parts, which are kept as they came until the
-- upload is completed: then they are read in order, as a file that is uploaded
-- whole.
CREATE TABLE uploads (
    id           uuid        PRIMARY KEY,
    owner        text        NOT NULL,
    filename     text        NOT NULL,
    bytes        bigint      NOT NULL CHECK (bytes > 0), -- of the whole file
    received     bigint      NOT NULL DEFAULT 0,         -- of parts that were received whole
    file_expires interval,                               -- NULL: as other files
    status       text        NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'completed', 'cancelled')),
    file_id      uuid,                                   -- no foreign key: the file may be purged before
    created_at   timestamptz NOT NULL DEFAULT now(),
    expires_at   timestamptz NOT NULL,
    purged       boolean     NOT NULL DEFAULT false,     -- no part is left
    CHECK ((status = 'completed') = (file_id IS NOT NULL))
);
CREATE INDEX uploads_owner ON uploads (owner, expires_at) WHERE status = 'pending';
CREATE INDEX uploads_expiring ON uploads (expires_at);
CREATE INDEX uploads_ended ON uploads (id) WHERE status <> 'pending' AND NOT purged;

CREATE TABLE upload_parts (
    id        uuid   PRIMARY KEY,
    upload_id uuid   NOT NULL REFERENCES uploads ON DELETE CASCADE,
    bytes     bigint CHECK (bytes >= 0) -- NULL: it is being received
);
CREATE INDEX upload_parts_upload ON upload_parts (upload_id);

CREATE TABLE upload_chunks (
    part_id uuid  NOT NULL REFERENCES upload_parts ON DELETE CASCADE,
    n       int   NOT NULL CHECK (n >= 0),
    data    bytea NOT NULL,
    PRIMARY KEY (part_id, n)
);
-- What lives for minutes is not worth compressing.
ALTER TABLE upload_chunks ALTER COLUMN data SET STORAGE EXTERNAL;

-- +goose Down
DROP TABLE upload_chunks, upload_parts, uploads;
ALTER TABLE api_keys DROP COLUMN admin;
