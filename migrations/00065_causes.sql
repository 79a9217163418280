-- +goose Up

-- What went wrong, for the owner's eyes: the cause of a broken call, or what the
-- endpoint said. It names no host, and may be a part of an answer: it is never
-- logged. `detail` is for operators.
ALTER TABLE results ADD COLUMN cause text;
ALTER TABLE requests ADD COLUMN last_cause text;
-- How often the request was refused in a way that is not its own fault, and
-- released with its attempts as they were.
ALTER TABLE requests ADD COLUMN refused int NOT NULL DEFAULT 0;

-- +goose Down
ALTER TABLE requests DROP COLUMN refused, DROP COLUMN last_cause;
ALTER TABLE results DROP COLUMN cause;
