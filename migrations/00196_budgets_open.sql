-- +goose NO TRANSACTION
-- +goose Up

-- Batches in progress that have a budget, for what the budgets allow together.
DROP INDEX CONCURRENTLY IF EXISTS batches_budget_open;
CREATE INDEX CONCURRENTLY batches_budget_open ON batches (id)
 WHERE status = 'in_progress' AND (budget_tokens IS NOT NULL OR budget_cost IS NOT NULL);

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS batches_budget_open;
