-- +goose Up

-- What operators decide about models and users while the system runs.

ALTER TABLE models
    ADD COLUMN paused boolean NOT NULL DEFAULT false,
    -- Null: as the environment says. Empty: none, whatever the environment says.
    ADD COLUMN escalation_model text CHECK (escalation_model <> model),
    -- Requests go there when less than this is left before their batch expires.
    ADD COLUMN escalation_threshold_seconds int CHECK (escalation_threshold_seconds > 0),
    ADD CHECK ((COALESCE(escalation_model, '') <> '') = (escalation_threshold_seconds IS NOT NULL));

-- Who is not listed has a weight of 1.
CREATE TABLE users (
    name       text             PRIMARY KEY,
    weight     double precision NOT NULL CHECK (weight BETWEEN 0.01 AND 1000),
    updated_at timestamptz      NOT NULL DEFAULT now()
);

-- The dispatcher asks for each user's most urgent batches, and for those whose
-- deadline has come near; both from an index, whatever the number of batches.
-- So cursors carry what batches say about that. Triggers keep it true for
-- programs that do not know of it.
ALTER TABLE cursors
    ADD COLUMN created_by text,
    ADD COLUMN expires_at timestamptz;
UPDATE cursors c SET created_by = b.created_by, expires_at = b.expires_at
  FROM batches b WHERE b.id = c.batch_id AND c.open;
ALTER TABLE cursors
    ADD CHECK (NOT open OR created_by IS NOT NULL AND expires_at IS NOT NULL);
CREATE INDEX cursors_users ON cursors (model, created_by, expires_at) WHERE open;
CREATE INDEX cursors_urgent ON cursors (model, expires_at) WHERE open;
DROP INDEX cursors_open;

-- +goose StatementBegin
CREATE FUNCTION cursors_read_batch() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    SELECT b.created_by, b.expires_at INTO NEW.created_by, NEW.expires_at FROM batches b WHERE b.id = NEW.batch_id;
    RETURN NEW;
END $$;
-- +goose StatementEnd
CREATE TRIGGER cursors_read_batch BEFORE INSERT OR UPDATE ON cursors
   FOR EACH ROW WHEN (NEW.expires_at IS NULL) EXECUTE FUNCTION cursors_read_batch();

-- +goose StatementBegin
CREATE FUNCTION batches_move_cursors() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE cursors SET expires_at = NEW.expires_at WHERE batch_id = NEW.id;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER batches_move_cursors AFTER UPDATE OF expires_at ON batches
   FOR EACH ROW WHEN (OLD.expires_at <> NEW.expires_at) EXECUTE FUNCTION batches_move_cursors();

-- Of which batches and models requests wait for a claim: those whose deadline
-- has come near go to another model.
CREATE INDEX requests_waiting ON requests (routed_model, batch_id, model) WHERE due_at IS NOT NULL;

-- +goose Down
DROP INDEX requests_waiting;
DROP TRIGGER batches_move_cursors ON batches;
DROP FUNCTION batches_move_cursors;
DROP TRIGGER cursors_read_batch ON cursors;
DROP FUNCTION cursors_read_batch;
CREATE INDEX cursors_open ON cursors (model) WHERE open;
DROP INDEX cursors_users, cursors_urgent;
ALTER TABLE cursors DROP COLUMN created_by, DROP COLUMN expires_at;
DROP TABLE users;
ALTER TABLE models DROP COLUMN paused, DROP COLUMN escalation_model, DROP COLUMN escalation_threshold_seconds;
