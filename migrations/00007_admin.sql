-- +goose Up

-- Keys of operators open the admin routes of the API besides.
ALTER TABLE api_keys ADD COLUMN admin boolean NOT NULL DEFAULT false;

-- +goose Down
ALTER TABLE api_keys DROP COLUMN admin;
