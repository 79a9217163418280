-- +goose NO TRANSACTION
-- +goose Up

-- What is due stands under the scheduler's policy, by owner and batch. So it is
-- listed and claimed by batch, automatic retries apart from reruns, each from an
-- index: the cost follows the numbers that are asked for, however many requests
-- are due now or later.
DROP INDEX CONCURRENTLY IF EXISTS requests_due_by_batch;
CREATE INDEX CONCURRENTLY requests_due_by_batch
    ON requests (routed_model, batch_id, (generation > 0 AND attempt = 0), due_at) WHERE due_at IS NOT NULL;

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS requests_due_by_batch;
