-- +goose Up

-- What operators decide about a model's calls and tokens in any minute; null: as
-- the environment says.
ALTER TABLE models
    ADD COLUMN requests_per_minute bigint CHECK (requests_per_minute > 0),
    ADD COLUMN tokens_per_minute   bigint CHECK (tokens_per_minute > 0);

-- +goose Down
ALTER TABLE models DROP COLUMN requests_per_minute, DROP COLUMN tokens_per_minute;
