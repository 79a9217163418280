-- +goose Up

-- A webhook is marked as deleted in a transaction of its own, and removed by the
-- next one. The mark takes no lock that keeps the trigger from the row, so a
-- batch that finishes meanwhile has its event unless the mark is committed, and a
-- removal that fails has lost none. The code before this removes at once.
ALTER TABLE webhooks ADD COLUMN deleted_at timestamptz;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION batches_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id)
    SELECT e.id, w.id, 'batch.' || NEW.status, NEW.id
      FROM (SELECT gen_random_uuid() AS id) e
     CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE owner = NEW.created_by AND deleted_at IS NULL FOR KEY SHARE SKIP LOCKED) w;
    IF NEW.brings_key THEN
        DELETE FROM batch_keys WHERE batch_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION batches_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO webhook_deliveries (event_id, webhook_id, type, batch_id)
    SELECT e.id, w.id, 'batch.' || NEW.status, NEW.id
      FROM (SELECT gen_random_uuid() AS id) e
     CROSS JOIN LATERAL (SELECT id FROM webhooks WHERE owner = NEW.created_by FOR KEY SHARE SKIP LOCKED) w;
    IF NEW.brings_key THEN
        DELETE FROM batch_keys WHERE batch_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;
-- +goose StatementEnd
DELETE FROM webhooks WHERE deleted_at IS NOT NULL;
ALTER TABLE webhooks DROP COLUMN deleted_at;
