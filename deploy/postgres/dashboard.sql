-- What operators change on the dashboard and by the API besides models' limits and
-- batches: API keys, the owners' weights, webhooks' deliveries, which they send again,
-- and the endpoints of models. Without it they do that with the command line and the
-- database alone, and whoever takes over an API process can make no key and have no
-- calls go elsewhere. Run it as
-- fusillade_owner after grants.sql, with every release, where you want it:
--
--   psql --dbname fusillade --username fusillade_owner --file dashboard.sql

BEGIN;

GRANT INSERT                 ON api_keys TO fusillade_api;
GRANT UPDATE (revoked_at)    ON api_keys TO fusillade_api;
GRANT INSERT, UPDATE, DELETE ON users TO fusillade_api;
GRANT INSERT (upstream_url, upstream_key, upstream_options, upstream_headers),
      UPDATE (upstream_url, upstream_key, upstream_options, upstream_headers) ON models TO fusillade_api;
GRANT UPDATE (next_attempt_at, delivered_at, attempts) ON webhook_deliveries TO fusillade_api;

COMMIT;
