-- +goose Up
-- What a file's requests ask for, as counted while it was read: batch.Survey. NULL for
-- files that a release before stored, and for those that nobody counted. It is written
-- once, when the file becomes ready.
ALTER TABLE files ADD COLUMN IF NOT EXISTS survey jsonb;

-- +goose Down
ALTER TABLE files DROP COLUMN IF EXISTS survey;
