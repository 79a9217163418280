-- +goose Up

-- API keys of model endpoints, tokens by model, and webhooks. Whatever is
-- secret here is encrypted with ENCRYPTION_KEY, bound to what its row is about.

ALTER TABLE models
    -- Null: as the environment says.
    ADD COLUMN upstream_url text CHECK (upstream_url <> ''),
    ADD COLUMN upstream_key bytea;

ALTER TABLE batches
    -- Its calls bear a key of its own, and no other: without it none is made.
    ADD COLUMN brings_key boolean NOT NULL DEFAULT false;
-- A row as long as the batch is in progress.
CREATE TABLE batch_keys (
    batch_id uuid  PRIMARY KEY REFERENCES batches ON DELETE CASCADE,
    sealed   bytea NOT NULL
);

-- What completed requests have used, by the model that was called. Moved by the
-- statement that moves the batch's counters, under the lock of the batch's row.
CREATE TABLE batch_usage (
    batch_id         uuid   NOT NULL REFERENCES batches ON DELETE CASCADE,
    model            text   NOT NULL,
    input_tokens     bigint NOT NULL,
    output_tokens    bigint NOT NULL,
    cached_tokens    bigint NOT NULL, -- of the input
    reasoning_tokens bigint NOT NULL, -- of the output
    PRIMARY KEY (batch_id, model)
) WITH (fillfactor = 50);

CREATE TABLE webhooks (
    id         uuid        PRIMARY KEY,
    owner      text        NOT NULL CHECK (owner <> ''),
    url        text        NOT NULL CHECK (url <> ''),
    secret     bytea       NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX webhooks_owner ON webhooks (owner, id);

-- An event for one endpoint. Written by the transaction that ends the batch.
CREATE TABLE webhook_deliveries (
    event_id        uuid        NOT NULL, -- the same for all endpoints of an owner
    webhook_id      uuid        NOT NULL REFERENCES webhooks ON DELETE CASCADE,
    type            text        NOT NULL,
    batch_id        uuid        NOT NULL, -- no foreign key: the event outlives its batch
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    attempts        int         NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    next_attempt_at timestamptz DEFAULT clock_timestamp(), -- null: delivered or given up
    delivered_at    timestamptz,
    last_status     int,
    last_error      text,
    PRIMARY KEY (webhook_id, event_id),
    CHECK (delivered_at IS NULL OR next_attempt_at IS NULL)
);
CREATE INDEX webhook_deliveries_due ON webhook_deliveries (webhook_id, next_attempt_at) WHERE next_attempt_at IS NOT NULL;
CREATE INDEX webhook_deliveries_settled ON webhook_deliveries (created_at) WHERE next_attempt_at IS NULL;

-- Whatever ends a batch, its owner's endpoints are told and its key is removed
-- in the same transaction.
-- +goose StatementBegin
CREATE FUNCTION batches_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id)
    SELECT e.id, w.id, 'batch.' || NEW.status, NEW.id
      FROM (SELECT gen_random_uuid() AS id) e CROSS JOIN webhooks w
     WHERE w.owner = NEW.created_by;
    IF NEW.brings_key THEN
        DELETE FROM batch_keys WHERE batch_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER batches_ended AFTER UPDATE OF status ON batches
   FOR EACH ROW WHEN (OLD.status = 'in_progress' AND NEW.status <> 'in_progress') EXECUTE FUNCTION batches_ended();

-- +goose Down
DROP TRIGGER batches_ended ON batches;
DROP FUNCTION batches_ended;
DROP TABLE webhook_deliveries, webhooks, batch_usage, batch_keys;
ALTER TABLE batches DROP COLUMN brings_key;
ALTER TABLE models DROP COLUMN upstream_url, DROP COLUMN upstream_key;
