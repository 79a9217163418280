-- +goose Up

-- What a batch may use: tokens, or money in millionths, by the prices of its models
-- as they were when the budget was set: {"model": [prompt, completion]}, each of a
-- million tokens in millionths; the empty name has the highest, for any other model.
-- Once it is spent, no request of the batch is called any more, and what is not being
-- called ends as canceled.
ALTER TABLE batches
    ADD COLUMN budget_tokens      bigint CHECK (budget_tokens > 0),
    ADD COLUMN budget_cost        bigint CHECK (budget_cost > 0),
    ADD COLUMN budget_prices      jsonb,
    ADD COLUMN budget_exceeded_at timestamptz,
    -- Of lines that were skipped; null: as their state says.
    ADD COLUMN skip_reason        text,
    ADD CHECK (budget_cost IS NULL OR budget_prices IS NOT NULL);

-- +goose Down

ALTER TABLE batches
    DROP COLUMN budget_tokens, DROP COLUMN budget_cost, DROP COLUMN budget_prices,
    DROP COLUMN budget_exceeded_at, DROP COLUMN skip_reason;
