-- +goose Up

-- A daemon that drains is seen to be stopping. It is alive as long as its
-- heartbeats say so: its calls go on.
ALTER TABLE daemons DROP CONSTRAINT daemons_status_check;
ALTER TABLE daemons ADD CONSTRAINT daemons_status_check CHECK (status IN ('initializing', 'running', 'stopping', 'dead'));

-- +goose Down
UPDATE daemons SET status = 'running' WHERE status = 'stopping';
ALTER TABLE daemons DROP CONSTRAINT daemons_status_check;
ALTER TABLE daemons ADD CONSTRAINT daemons_status_check CHECK (status IN ('initializing', 'running', 'dead'));
