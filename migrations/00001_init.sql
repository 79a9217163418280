-- +goose Up

-- Queue, payload and history live apart: `requests` holds only what is live,
-- so that it stays small and its updates stay HOT; `templates` holds the
-- immutable payloads; `results` is append-only.

CREATE TABLE files (
    id          uuid        PRIMARY KEY,
    status      text        NOT NULL CHECK (status IN ('uploading', 'ready', 'deleted')),
    filename    text        NOT NULL DEFAULT '',
    purpose     text        NOT NULL DEFAULT 'batch',
    endpoint    text        NOT NULL DEFAULT '',
    bytes       bigint      NOT NULL DEFAULT 0 CHECK (bytes >= 0),
    requests    int         NOT NULL DEFAULT 0 CHECK (requests >= 0),
    sha256      bytea,
    created_by  text        NOT NULL DEFAULT '',
    created_at  timestamptz NOT NULL DEFAULT now(),
    -- The last time a chunk arrived: an upload that its client abandoned is
    -- told by this from one that is slow.
    touched_at  timestamptz NOT NULL DEFAULT now(),
    expires_at  timestamptz,
    deleted_at  timestamptz,
    CHECK (status <> 'ready' OR requests > 0),
    CHECK ((status = 'deleted') = (deleted_at IS NOT NULL))
);
CREATE INDEX files_sha256 ON files (sha256) WHERE status = 'ready';
CREATE INDEX files_unready ON files (touched_at) WHERE status <> 'ready';

CREATE TABLE file_models (
    file_id  uuid   NOT NULL REFERENCES files ON DELETE CASCADE,
    model    text   NOT NULL,
    requests int    NOT NULL CHECK (requests > 0),
    bytes    bigint NOT NULL CHECK (bytes >= 0),
    PRIMARY KEY (file_id, model)
);

-- No foreign key to files: it would cost a look-up for each line of a COPY.
-- Lines of a file that was refused or deleted are removed by their file's id.
CREATE TABLE templates (
    file_id   uuid  NOT NULL,
    line      int   NOT NULL CHECK (line > 0),
    model     text  NOT NULL,
    custom_id text  NOT NULL,
    method    text  NOT NULL,
    path      text  NOT NULL,
    body      bytea NOT NULL,
    PRIMARY KEY (file_id, line)
);
CREATE INDEX templates_model ON templates (file_id, model, line);

CREATE TABLE batches (
    id                uuid        PRIMARY KEY,
    file_id           uuid        NOT NULL REFERENCES files,
    endpoint          text        NOT NULL,
    completion_window text        NOT NULL,
    metadata          jsonb       NOT NULL DEFAULT '{}',
    created_by        text        NOT NULL DEFAULT '',
    idempotency_key   text,
    status            text        NOT NULL DEFAULT 'in_progress'
                      CHECK (status IN ('in_progress', 'completed', 'failed', 'cancelled', 'expired')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    expires_at        timestamptz NOT NULL,
    finished_at       timestamptz,
    cancelling_at     timestamptz,
    deleted_at        timestamptz,
    -- The exact counters: moved by the statement that writes the results, under
    -- this row's lock, which also makes next_seq gapless and in commit order.
    total             int         NOT NULL CHECK (total > 0),
    completed         int         NOT NULL DEFAULT 0 CHECK (completed >= 0),
    failed            int         NOT NULL DEFAULT 0 CHECK (failed >= 0),
    canceled          int         NOT NULL DEFAULT 0 CHECK (canceled >= 0),
    expired           int         NOT NULL DEFAULT 0 CHECK (expired >= 0),
    next_seq          int         NOT NULL DEFAULT 0 CHECK (next_seq >= 0),
    CHECK (completed + failed + canceled + expired <= total),
    CHECK ((status = 'in_progress') = (finished_at IS NULL)),
    CHECK (status = 'in_progress' OR completed + failed + canceled + expired = total)
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX batches_idempotency ON batches (created_by, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX batches_live ON batches (expires_at) WHERE status = 'in_progress';

-- How far each model of a batch has been claimed. A pending request is a line
-- of `templates` beyond its cursor and has no row of its own.
CREATE TABLE cursors (
    batch_id  uuid    NOT NULL REFERENCES batches ON DELETE CASCADE,
    model     text    NOT NULL,
    file_id   uuid    NOT NULL,
    total     int     NOT NULL CHECK (total > 0),
    claimed   int     NOT NULL DEFAULT 0 CHECK (claimed >= 0),
    -- Lines that will never be claimed, because the batch was cancelled or expired.
    skipped   int     NOT NULL DEFAULT 0 CHECK (skipped >= 0),
    last_line int     NOT NULL DEFAULT 0 CHECK (last_line >= 0),
    -- A column of its own rather than an index predicate on the counts, so
    -- that a claim's update of them stays HOT.
    open      boolean NOT NULL DEFAULT true,
    PRIMARY KEY (batch_id, model),
    CHECK (claimed + skipped <= total),
    CHECK (open = (claimed + skipped < total))
) WITH (fillfactor = 50);
CREATE INDEX cursors_open ON cursors (model) WHERE open;

CREATE TYPE request_state AS ENUM ('pending', 'claimed', 'processing', 'completed', 'failed', 'canceled', 'expired');

-- Live requests only: inserted by the claim, deleted by the write of the result.
-- No foreign keys, for the same reason as in templates.
CREATE TABLE requests (
    batch_id     uuid          NOT NULL,
    line         int           NOT NULL,
    file_id      uuid          NOT NULL,
    model        text          NOT NULL, -- as the file says
    routed_model text          NOT NULL, -- whose subject and limit it uses
    state        request_state NOT NULL CHECK (state IN ('pending', 'claimed', 'processing')),
    attempt      int           NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    claim        int           NOT NULL CHECK (claim > 0),
    delivery     int           NOT NULL DEFAULT 0 CHECK (delivery >= 0),
    daemon_id    uuid,
    takeovers    int           NOT NULL DEFAULT 0, -- starts that found it processing: its consumer died or hung
    claimed_at   timestamptz   NOT NULL DEFAULT now(),
    started_at   timestamptz,
    not_before   timestamptz,  -- end of a backoff that the stream holds
    due_at       timestamptz,  -- set: has no message and waits for a claim
    last_reason  text,
    last_status  int,
    PRIMARY KEY (batch_id, line),
    CHECK ((state = 'processing') = (daemon_id IS NOT NULL)),
    CHECK ((state = 'processing') <= (started_at IS NOT NULL)),
    CHECK (due_at IS NULL OR state = 'pending')
-- Room for a second version of every row, so that the start of each is HOT.
) WITH (fillfactor = 45, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX requests_due ON requests (routed_model, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE results (
    batch_id            uuid          NOT NULL,
    line                int           NOT NULL,
    seq                 int           NOT NULL,
    state               request_state NOT NULL CHECK (state IN ('completed', 'failed', 'canceled', 'expired')),
    status_code         int,
    attempts            int           NOT NULL CHECK (attempts >= 0),
    prompt_tokens       bigint,
    completion_tokens   bigint,
    started_at          timestamptz,
    finished_at         timestamptz   NOT NULL DEFAULT now(),
    reason              text,
    detail              text,          -- what went wrong, in words; nothing of a body or key
    routed_model        text          NOT NULL,
    answered_model      text,
    upstream_request_id text,
    body                bytea,
    PRIMARY KEY (batch_id, line),
    CHECK ((state = 'completed') = (reason IS NULL))
) WITH (autovacuum_vacuum_insert_scale_factor = 0.05);
CREATE UNIQUE INDEX results_seq ON results (batch_id, seq);

CREATE TABLE daemons (
    id                 uuid        PRIMARY KEY,
    role               text        NOT NULL CHECK (role IN ('dispatcher', 'consumer', 'standalone')),
    hostname           text        NOT NULL,
    pid                int         NOT NULL,
    version            text        NOT NULL,
    status             text        NOT NULL CHECK (status IN ('initializing', 'running', 'dead')),
    started_at         timestamptz NOT NULL DEFAULT now(),
    last_heartbeat     timestamptz NOT NULL DEFAULT now(),
    stopped_at         timestamptz,
    requests_completed bigint      NOT NULL DEFAULT 0,
    requests_failed    bigint      NOT NULL DEFAULT 0,
    requests_in_flight int         NOT NULL DEFAULT 0,
    config             jsonb       NOT NULL DEFAULT '{}',
    CHECK ((status = 'dead') = (stopped_at IS NOT NULL))
) WITH (fillfactor = 50);

-- Settings that operators change while the system runs. A model without a row
-- has the defaults of the environment.
CREATE TABLE models (
    model             text        PRIMARY KEY,
    concurrency_limit int         CHECK (concurrency_limit > 0),
    updated_at        timestamptz NOT NULL DEFAULT now()
);

-- Every request with its state, for people and tests. Not for a hot path.
CREATE VIEW request_states AS
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

-- +goose Down
DROP VIEW request_states;
DROP TABLE models, daemons, results, requests, cursors, batches, templates, file_models, files;
DROP TYPE request_state;
