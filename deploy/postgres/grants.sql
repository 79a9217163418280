-- What each role of Fusillade may do in the tables, and nothing else. Run it as
-- fusillade_owner after `fusillade migrate up`, with every release: it takes all
-- privileges away and gives those that are needed, in one transaction.
--
--   psql --dbname fusillade --username fusillade_owner --file grants.sql
--
-- Triggers run with the privileges of who changes the row: whoever may end a
-- batch may write events of webhooks and remove the batch's key. A row lock takes
-- the privilege to update some column.

BEGIN;

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM fusillade_dispatcher, fusillade_consumer, fusillade_api, fusillade_operator, fusillade_monitor;

-- Which migrations the database has.
GRANT SELECT ON goose_db_version TO fusillade_dispatcher, fusillade_consumer, fusillade_api, fusillade_operator;

-- The dispatcher claims, sweeps, expires and purges, and delivers webhooks. It
-- reads no key of a batch and no key of a model.
GRANT SELECT, UPDATE, DELETE         ON batches, cursors, files TO fusillade_dispatcher;
GRANT SELECT, INSERT, UPDATE, DELETE ON requests TO fusillade_dispatcher;
GRANT SELECT, INSERT, DELETE         ON results TO fusillade_dispatcher;
GRANT SELECT, DELETE                 ON callbacks TO fusillade_dispatcher;
GRANT SELECT, INSERT, UPDATE         ON batch_usage TO fusillade_dispatcher;
GRANT SELECT, DELETE                 ON templates TO fusillade_dispatcher;
GRANT UPDATE (body)                  ON templates TO fusillade_dispatcher;
GRANT SELECT                         ON file_models, users, jobs TO fusillade_dispatcher;
GRANT SELECT, UPDATE, DELETE         ON owner_models, uploads TO fusillade_dispatcher;
GRANT SELECT, DELETE                 ON upload_parts, upload_chunks TO fusillade_dispatcher;
GRANT SELECT (batch_id), DELETE      ON batch_keys TO fusillade_dispatcher;
GRANT SELECT, DELETE                 ON webhooks TO fusillade_dispatcher;
GRANT UPDATE (deleted_at)            ON webhooks TO fusillade_dispatcher;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook_deliveries TO fusillade_dispatcher;
GRANT SELECT, INSERT, UPDATE, DELETE ON daemons TO fusillade_dispatcher;
GRANT SELECT, INSERT, UPDATE, DELETE ON samples TO fusillade_dispatcher;
GRANT SELECT (model, concurrency_limit, concurrency_least, concurrency_most, paused, escalation_model, escalation_threshold_seconds,
              requests_per_minute, tokens_per_minute, updated_at)
   ON models TO fusillade_dispatcher;

-- The consumer starts and finishes requests. It alone reads the keys of batches,
-- and no secret of a webhook.
GRANT SELECT                         ON templates, models TO fusillade_consumer;
GRANT SELECT, UPDATE, DELETE         ON requests TO fusillade_consumer;
GRANT SELECT, UPDATE                 ON batches TO fusillade_consumer;
GRANT SELECT, INSERT, UPDATE         ON batch_usage TO fusillade_consumer;
GRANT INSERT                         ON results TO fusillade_consumer;
GRANT SELECT, DELETE                 ON batch_keys TO fusillade_consumer;
GRANT SELECT (id, owner, deleted_at) ON webhooks TO fusillade_consumer;
GRANT UPDATE (deleted_at)            ON webhooks TO fusillade_consumer;
GRANT INSERT                         ON webhook_deliveries TO fusillade_consumer;
GRANT SELECT, INSERT, UPDATE         ON daemons TO fusillade_consumer;

-- The API stores files and batches and reads results. It stores keys of batches
-- and cannot read them, makes no API key, and changes no endpoint of a model.
-- Operators see keys, webhooks and owners on the dashboard; what they may change
-- there is in dashboard.sql.
GRANT SELECT                         ON api_keys, batch_usage, daemons, jobs TO fusillade_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON files, requests, owner_models, upload_parts, sessions TO fusillade_api;
GRANT SELECT, INSERT, UPDATE         ON batches, cursors, uploads TO fusillade_api;
GRANT SELECT, INSERT, DELETE         ON templates, results TO fusillade_api;
GRANT SELECT, INSERT                 ON file_models, upload_chunks TO fusillade_api;
GRANT SELECT (batch_id), INSERT, DELETE ON batch_keys TO fusillade_api;
GRANT UPDATE (sealed)                ON batch_keys TO fusillade_api;
GRANT SELECT (id, owner, url, created_at, deleted_at) ON webhooks TO fusillade_api;
GRANT UPDATE (deleted_at)            ON webhooks TO fusillade_api;
GRANT SELECT, INSERT                 ON webhook_deliveries TO fusillade_api;
GRANT SELECT                         ON users, samples TO fusillade_api;
GRANT SELECT                         ON models TO fusillade_api;
GRANT INSERT (model, concurrency_limit, concurrency_least, concurrency_most, paused, escalation_model, escalation_threshold_seconds,
              requests_per_minute, tokens_per_minute),
      UPDATE (concurrency_limit, concurrency_least, concurrency_most, paused, escalation_model, escalation_threshold_seconds,
              requests_per_minute, tokens_per_minute, updated_at)
   ON models TO fusillade_api;

-- The operator's command line makes API keys, webhooks, weights and endpoints, and
-- encrypts secrets anew. It reads no prompt and no result.
GRANT SELECT, INSERT                 ON api_keys TO fusillade_operator;
GRANT UPDATE (revoked_at)            ON api_keys TO fusillade_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON users, webhooks TO fusillade_operator;
GRANT SELECT, INSERT, UPDATE         ON models TO fusillade_operator;
GRANT SELECT                         ON batch_keys TO fusillade_operator;
GRANT UPDATE (sealed)                ON batch_keys TO fusillade_operator;
GRANT SELECT (id, brings_key, key_fingerprint) ON batches TO fusillade_operator;
GRANT UPDATE (key_fingerprint)       ON batches TO fusillade_operator;

-- Grafana dashboards (deploy/grafana) show how far batches are and what owners used. They
-- read no metadata, no prompt and no result.
GRANT SELECT (id, created_by, status, priority, created_at, expires_at, finished_at, deleted_at, total, completed, failed, canceled, expired, retries)
   ON batches TO fusillade_monitor;
GRANT SELECT                         ON batch_usage TO fusillade_monitor;
GRANT SELECT (name, weight)          ON users TO fusillade_monitor;

COMMIT;
