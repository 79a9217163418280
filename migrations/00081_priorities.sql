-- +goose Up

-- Orders an owner's batches before their deadlines do: the highest comes first.
-- Cursors have a copy, as of the deadline.
ALTER TABLE batches ADD COLUMN priority smallint NOT NULL DEFAULT 0 CHECK (priority BETWEEN -100 AND 100);
ALTER TABLE cursors ADD COLUMN priority smallint NOT NULL DEFAULT 0;
CREATE INDEX cursors_priorities ON cursors (model, created_by, priority DESC, expires_at) WHERE open;

-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cursors_read_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT b.created_by, b.expires_at, b.priority INTO NEW.created_by, NEW.expires_at, NEW.priority
      FROM batches b WHERE b.id = NEW.batch_id;
    RETURN NEW;
END $$;
-- +goose StatementEnd

-- +goose Down
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION cursors_read_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT b.created_by, b.expires_at INTO NEW.created_by, NEW.expires_at FROM batches b WHERE b.id = NEW.batch_id;
    RETURN NEW;
END $$;
-- +goose StatementEnd
DROP INDEX cursors_priorities;
ALTER TABLE cursors DROP COLUMN priority;
ALTER TABLE batches DROP COLUMN priority;
