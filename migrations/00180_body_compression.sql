-- +goose Up

-- Bodies of more than 2 kB are compressed as they are stored: that is most of what
-- Postgres does with them, and lz4 takes a fraction of the time of pglz. Catalogs alone
-- are changed: what is stored stays as it is and is read as before, and what comes is
-- stored anew. A server that was built without lz4 keeps pglz.
-- +goose StatementBegin
DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_settings WHERE name = 'default_toast_compression' AND 'lz4' = ANY (enumvals)) THEN
        ALTER TABLE templates ALTER body SET COMPRESSION lz4;
        ALTER TABLE results ALTER body SET COMPRESSION lz4;
    END IF;
END $$;
-- +goose StatementEnd

-- +goose Down
ALTER TABLE results ALTER body SET COMPRESSION default;
ALTER TABLE templates ALTER body SET COMPRESSION default;
