-- +goose Up

-- Cancel, expiry, manual retry, deletion and purge.

ALTER TABLE files
    -- The line up to which the bodies of a deleted file were erased, while
    -- batches of it remain whose results need its custom ids.
    ADD COLUMN erased_line int NOT NULL DEFAULT 0;
CREATE INDEX files_expiring ON files (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX files_deleted ON files (deleted_at) WHERE status = 'deleted';

ALTER TABLE batches
    -- Manual retries so far: each opens a generation of its own.
    ADD COLUMN retries    int NOT NULL DEFAULT 0 CHECK (retries >= 0),
    -- When the completion window began that expires_at ends, if not at creation.
    ADD COLUMN renewed_at timestamptz,
    -- Lines beyond their cursors that ended without a row (cursors.skipped):
    -- the state they ended in, and their places in the output. The places
    -- skip_seq..skip_end-1 are reserved, and that of line l is
    -- skip_seq + l - skip_line.
    ADD COLUMN skipped_as request_state CHECK (skipped_as IN ('canceled', 'expired')),
    ADD COLUMN skip_seq   int,
    ADD COLUMN skip_line  int,
    ADD COLUMN skip_end   int,
    ADD CHECK (num_nonnulls(skipped_as, skip_seq, skip_line, skip_end) IN (0, 4));
-- For deleting a file, and for the foreign key.
CREATE INDEX batches_file ON batches (file_id);
CREATE INDEX batches_deleted ON batches (deleted_at) WHERE deleted_at IS NOT NULL;

ALTER TABLE cursors
    -- How many lines were given a row out of turn, because they were canceled or
    -- retried one by one: the claim must pass over them. They count as claimed.
    ADD COLUMN holes int NOT NULL DEFAULT 0 CHECK (holes >= 0);

ALTER TABLE requests
    -- Of the manual retry that brought it back; 0: of its first life.
    ADD COLUMN generation int NOT NULL DEFAULT 0 CHECK (generation >= 0);

ALTER TABLE results
    -- The last claim, so that a retry goes on counting and nothing of an
    -- earlier life fits; 0: was never claimed.
    ADD COLUMN claim int NOT NULL DEFAULT 0 CHECK (claim >= 0);

CREATE OR REPLACE VIEW request_states AS
SELECT c.batch_id, t.line, t.custom_id, t.model,
       CASE WHEN c.open THEN 'pending'::request_state ELSE b.skipped_as END AS state, 0 AS attempt
  FROM cursors c
  JOIN batches b ON b.id = c.batch_id
  JOIN templates t ON t.file_id = c.file_id AND t.model = c.model AND t.line > c.last_line
 WHERE (c.open OR c.skipped > 0)
   AND (c.holes = 0 OR NOT EXISTS (SELECT FROM requests r WHERE r.batch_id = c.batch_id AND r.line = t.line)
                   AND NOT EXISTS (SELECT FROM results s WHERE s.batch_id = c.batch_id AND s.line = t.line))
UNION ALL
SELECT r.batch_id, r.line, t.custom_id, t.model, r.state, r.attempt
  FROM requests r
  JOIN templates t ON t.file_id = r.file_id AND t.line = r.line
UNION ALL
SELECT s.batch_id, s.line, t.custom_id, t.model, s.state, s.attempts
  FROM results s
  JOIN batches b ON b.id = s.batch_id
  JOIN templates t ON t.file_id = b.file_id AND t.line = s.line;

-- +goose Down
CREATE OR REPLACE VIEW request_states AS
SELECT c.batch_id, t.line, t.custom_id, t.model, 'pending'::request_state AS state, 0 AS attempt
  FROM cursors c
  JOIN batches b ON b.id = c.batch_id AND b.status = 'in_progress'
  JOIN templates t ON t.file_id = c.file_id AND t.model = c.model AND t.line > c.last_line
 WHERE c.open
UNION ALL
SELECT r.batch_id, r.line, t.custom_id, t.model, r.state, r.attempt
  FROM requests r
  JOIN templates t ON t.file_id = r.file_id AND t.line = r.line
UNION ALL
SELECT c.batch_id, t.line, t.custom_id, t.model,
       CASE b.status WHEN 'cancelled' THEN 'canceled'::request_state ELSE 'expired' END, 0
  FROM cursors c
  JOIN batches b ON b.id = c.batch_id
  JOIN templates t ON t.file_id = c.file_id AND t.model = c.model AND t.line > c.last_line
 WHERE c.skipped > 0
UNION ALL
SELECT s.batch_id, s.line, t.custom_id, t.model, s.state, s.attempts
  FROM results s
  JOIN batches b ON b.id = s.batch_id
  JOIN templates t ON t.file_id = b.file_id AND t.line = s.line;
ALTER TABLE results DROP COLUMN claim;
ALTER TABLE requests DROP COLUMN generation;
ALTER TABLE cursors DROP COLUMN holes;
DROP INDEX batches_deleted, batches_file;
ALTER TABLE batches
    DROP COLUMN retries, DROP COLUMN renewed_at, DROP COLUMN skipped_as,
    DROP COLUMN skip_seq, DROP COLUMN skip_line, DROP COLUMN skip_end;
DROP INDEX files_deleted, files_expiring;
ALTER TABLE files DROP COLUMN erased_line;
