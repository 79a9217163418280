-- +goose NO TRANSACTION
-- +goose Up

-- The batches of a file, newest first; and what batches_file was for: deleting a file,
-- and the foreign key.
DROP INDEX CONCURRENTLY IF EXISTS batches_file_newest;
CREATE INDEX CONCURRENTLY batches_file_newest ON batches (file_id, id);
DROP INDEX CONCURRENTLY IF EXISTS batches_file;

-- +goose Down
CREATE INDEX CONCURRENTLY IF NOT EXISTS batches_file ON batches (file_id);
DROP INDEX CONCURRENTLY IF EXISTS batches_file_newest;
