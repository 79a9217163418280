-- +goose Up

-- How a model's endpoint wants to be spoken to. The code before this does not
-- look here: it calls upstream_url as it is, without the key, which is bound to
-- these options too and does not open without them.
ALTER TABLE models
    -- JSON as internal/endpoint writes it; null: as OpenAI's API.
    ADD COLUMN upstream_options text CHECK (upstream_options <> ''),
    -- Encrypted: the headers whose names upstream_options has.
    ADD COLUMN upstream_headers bytea;

-- +goose Down
ALTER TABLE models DROP COLUMN upstream_options, DROP COLUMN upstream_headers;
