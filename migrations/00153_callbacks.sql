-- +goose Up

-- Calls that are owed to programs which embed Fusillade and have set OnResult or
-- OnResultTx: a row is written with the result, and goes with the call that was
-- made. Where no program has either, this is empty.
CREATE TABLE callbacks (
    batch_id  uuid    NOT NULL,
    seq       bigint  NOT NULL, -- the result's place in its batch
    in_tx     boolean NOT NULL, -- of OnResultTx; else of OnResult
    -- The daemon that makes the call. One that is dead makes it no more: another
    -- takes it over. Null: it waits for its time.
    daemon_id uuid,
    due_at    timestamptz,
    tries     int     NOT NULL DEFAULT 0 CHECK (tries >= 0), -- that failed
    PRIMARY KEY (batch_id, seq, in_tx),
    CHECK ((daemon_id IS NULL) = (due_at IS NOT NULL))
-- No foreign key, as of results. It is emptied as fast as it is filled.
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 10000);
CREATE INDEX callbacks_daemon ON callbacks (daemon_id) WHERE daemon_id IS NOT NULL;
CREATE INDEX callbacks_due ON callbacks (due_at) WHERE due_at IS NOT NULL;

-- +goose Down

DROP TABLE callbacks;
