-- +goose NO TRANSACTION
-- +goose Up

-- What did not complete, of a batch: a few lines among millions. Nothing else is
-- written to the index.
DROP INDEX CONCURRENTLY IF EXISTS results_unsuccessful;
CREATE INDEX CONCURRENTLY results_unsuccessful ON results (batch_id, seq) WHERE state <> 'completed';

-- +goose Down
DROP INDEX CONCURRENTLY IF EXISTS results_unsuccessful;
