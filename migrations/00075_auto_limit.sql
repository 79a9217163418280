-- +goose Up

-- The bounds of a limit that is found while it runs. A number in
-- concurrency_limit goes before them, so that a release which knows nothing of
-- them can still set one.
ALTER TABLE models
    ADD COLUMN concurrency_least int,
    ADD COLUMN concurrency_most  int,
    ADD CONSTRAINT models_concurrency_bounds CHECK (
        (concurrency_least IS NULL) = (concurrency_most IS NULL)
        AND concurrency_least > 0 AND concurrency_most >= concurrency_least
    );

-- +goose Down
ALTER TABLE models
    DROP COLUMN concurrency_least,
    DROP COLUMN concurrency_most;
