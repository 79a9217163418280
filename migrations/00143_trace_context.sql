-- +goose Up

-- The trace context of a batch's creation, as W3C has it: its traceparent, and after a
-- blank its tracestate, if there is one. Each request's trace has a link to it. Null:
-- the creation was not traced.
ALTER TABLE batches ADD COLUMN trace_context text CHECK (octet_length(trace_context) <= 1024);

-- +goose Down

ALTER TABLE batches DROP COLUMN trace_context;
