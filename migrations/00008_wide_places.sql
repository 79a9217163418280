-- +goose Up

-- Places in the output are never used twice, so whoever cancels and reruns a
-- batch over and over uses them up: they are 64 bits wide from here on.
--
-- A column that changes its width rewrites its table under a lock that holds up
-- everything, about 20 s a gigabyte with its indexes. So only tables under 64 MB
-- are changed here, within about a second each. A larger one keeps 32 bits, and a
-- rerun is refused that could use the last of 2^31 places. To widen it in a
-- pause of your own:
--
--   ALTER TABLE batches ALTER next_seq TYPE bigint, ALTER skip_seq TYPE bigint, ALTER skip_end TYPE bigint;
--   ALTER TABLE results ALTER seq TYPE bigint;
--
-- Programs work with both widths.
-- +goose StatementBegin
DO $$
BEGIN
    IF pg_total_relation_size('batches') < 64 * 1024 * 1024 THEN
        ALTER TABLE batches ALTER next_seq TYPE bigint, ALTER skip_seq TYPE bigint, ALTER skip_end TYPE bigint;
    END IF;
    IF pg_total_relation_size('results') < 64 * 1024 * 1024 THEN
        ALTER TABLE results ALTER seq TYPE bigint;
    END IF;
END $$;
-- +goose StatementEnd

-- Batches whose cancel is under way: a large one takes several transactions,
-- and the leader goes on with what a crash left. As many rows as there are such
-- batches; the lock is held for one walk of the table.
CREATE INDEX batches_cancelling ON batches (cancelling_at) WHERE status = 'in_progress' AND cancelling_at IS NOT NULL;

-- A batch finishes whatever becomes of its owner's webhooks: one that is being
-- deleted is passed over instead of waited for, and gets no event.
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

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION batches_ended() RETURNS trigger LANGUAGE plpgsql AS $$
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
DROP INDEX batches_cancelling;
-- The columns stay as wide as they are: programs work with both widths.
