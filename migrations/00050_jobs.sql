-- +goose Up

-- Batches that `fusillade run` made of a local file.
CREATE TABLE jobs (
    batch_id uuid PRIMARY KEY REFERENCES batches ON DELETE CASCADE,
    input    text NOT NULL, -- what the file is called
    endpoint text NOT NULL  -- where its calls go, in words; empty: not known
);

-- They belong to the owner whose files and batches `fusillade serve` shows
-- where no keys are asked for. The code before this looks for them under the
-- former owner and begins anew.
INSERT INTO jobs (batch_id, input, endpoint)
SELECT b.id, f.filename, '' FROM batches b JOIN files f ON f.id = b.file_id
 WHERE b.created_by = 'fusillade run' AND b.deleted_at IS NULL;
UPDATE files SET created_by = 'local' WHERE created_by = 'fusillade run';
UPDATE cursors SET created_by = 'local' WHERE created_by = 'fusillade run';
UPDATE batches SET created_by = 'local' WHERE created_by = 'fusillade run';

-- +goose Down
UPDATE files SET created_by = 'fusillade run'
 WHERE id IN (SELECT b.file_id FROM jobs j JOIN batches b ON b.id = j.batch_id);
UPDATE cursors SET created_by = 'fusillade run' WHERE batch_id IN (SELECT batch_id FROM jobs);
UPDATE batches SET created_by = 'fusillade run' WHERE id IN (SELECT batch_id FROM jobs);
DROP TABLE jobs;
