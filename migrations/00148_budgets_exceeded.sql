-- +goose NO TRANSACTION
-- +goose Up

-- Batches whose budget is spent and whose last calls are in flight: as many rows as
-- there are such batches.
DROP INDEX CONCURRENTLY IF EXISTS batches_budget_exceeded;
CREATE INDEX CONCURRENTLY batches_budget_exceeded ON batches (budget_exceeded_at)
 WHERE status = 'in_progress' AND budget_exceeded_at IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS batches_budget_exceeded;
