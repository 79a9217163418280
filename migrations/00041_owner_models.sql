-- +goose Up

-- The models that each owner's files name, and how many files that are ready
-- name each. Names are bounded per owner and in total, so they must be counted
-- without reading files. Triggers count, so that nothing that stores or deletes a
-- file can forget to.
CREATE TABLE owner_models (
    owner text NOT NULL,
    model text NOT NULL,
    files int  NOT NULL CHECK (files > 0),
    PRIMARY KEY (owner, model)
);
CREATE INDEX owner_models_model ON owner_models (model);

-- A file's models are stored when it becomes ready, in the same transaction.
-- In order, so that transactions of one owner wait and do not deadlock.
-- +goose StatementBegin
CREATE FUNCTION count_file_models() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO owner_models AS o (owner, model, files)
    SELECT f.created_by, a.model, count(*) FROM added a JOIN files f ON f.id = a.file_id
     GROUP BY f.created_by, a.model ORDER BY f.created_by, a.model
        ON CONFLICT (owner, model) DO UPDATE SET files = o.files + EXCLUDED.files;
    RETURN NULL;
END $$;
-- +goose StatementEnd

-- A deleted file keeps its models until it is purged. Rows are locked in order.
-- +goose StatementBegin
CREATE FUNCTION uncount_file_models() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM FROM owner_models o
      JOIN file_models m ON m.file_id = NEW.id AND m.model = o.model
     WHERE o.owner = NEW.created_by ORDER BY o.model FOR UPDATE OF o;
    DELETE FROM owner_models o USING file_models m
     WHERE m.file_id = NEW.id AND o.owner = NEW.created_by AND o.model = m.model AND o.files = 1;
    UPDATE owner_models o SET files = o.files - 1 FROM file_models m
     WHERE m.file_id = NEW.id AND o.owner = NEW.created_by AND o.model = m.model AND o.files > 1;
    RETURN NULL;
END $$;
-- +goose StatementEnd
CREATE TRIGGER count_file_models AFTER INSERT ON file_models
   REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION count_file_models();
CREATE TRIGGER uncount_file_models AFTER UPDATE OF status ON files
   FOR EACH ROW WHEN (OLD.status = 'ready' AND NEW.status = 'deleted') EXECUTE FUNCTION uncount_file_models();

-- The triggers' locks keep files from being added until this is committed.
-- A later migration gives the files of that owner to the other.
INSERT INTO owner_models (owner, model, files)
SELECT CASE f.created_by WHEN 'fusillade run' THEN 'local' ELSE f.created_by END AS owner, m.model, count(*)
  FROM files f JOIN file_models m ON m.file_id = f.id WHERE f.status = 'ready'
 GROUP BY 1, 2;

-- +goose Down
DROP TRIGGER uncount_file_models ON files;
DROP TRIGGER count_file_models ON file_models;
DROP FUNCTION uncount_file_models, count_file_models;
DROP TABLE owner_models;
