-- +goose Up
-- What was done in each minute of the last day, of each owner and, with the empty
-- one, of all: for plots. Minutes in which nothing was done have no row. The leader
-- writes and removes them.
CREATE TABLE IF NOT EXISTS samples (
    owner         text        NOT NULL,
    minute        timestamptz NOT NULL,
    completed     bigint      NOT NULL,
    unsuccessful  bigint      NOT NULL, -- failed, canceled or expired
    input_tokens  bigint      NOT NULL,
    output_tokens bigint      NOT NULL,
    PRIMARY KEY (owner, minute)
);
CREATE INDEX IF NOT EXISTS samples_minute ON samples (minute);

-- +goose Down
DROP TABLE IF EXISTS samples;
