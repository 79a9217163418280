package checker_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// A batch of ten lines, the odd ones of model a and the even ones of model b:
// lines 1, 2 and 3 have ended, 4 and 5 are live, the rest is pending.
const soundSQL = `
INSERT INTO files (id, status, requests) VALUES (f(), 'ready', 10);
INSERT INTO file_models VALUES (f(), 'a', 5, 10), (f(), 'b', 5, 10);
INSERT INTO templates
SELECT f(), n, CASE n % 2 WHEN 1 THEN 'a' ELSE 'b' END, 'id-' || n, 'POST', '/v1/x', '{}' FROM generate_series(1, 10) n;
INSERT INTO batches (id, file_id, endpoint, completion_window, expires_at, total, completed, failed, next_seq)
VALUES (b(), f(), '', '24h', now() + interval '1 day', 10, 2, 1, 3);
INSERT INTO cursors (batch_id, model, file_id, total, claimed, last_line) VALUES (b(), 'a', f(), 5, 3, 5), (b(), 'b', f(), 5, 2, 4);
INSERT INTO requests (batch_id, line, file_id, model, routed_model, state, claim) VALUES (b(), 4, f(), 'b', 'b', 'claimed', 1);
INSERT INTO requests (batch_id, line, file_id, model, routed_model, state, claim, delivery, daemon_id, started_at)
VALUES (b(), 5, f(), 'a', 'a', 'processing', 2, 1, f(), now());
INSERT INTO results (batch_id, line, seq, state, attempts, routed_model, reason) VALUES
(b(), 2, 0, 'completed', 1, 'b', NULL), (b(), 1, 1, 'failed', 3, 'a', 'timeout'), (b(), 3, 2, 'completed', 1, 'a', NULL);
UPDATE results SET prompt_tokens = 10, completion_tokens = 20 WHERE line IN (1, 3);
INSERT INTO batch_usage VALUES (b(), 'a', 10, 20, 0, 0);`

const resetSQL = `TRUNCATE files, file_models, templates, batches, batch_usage, batch_keys, cursors, requests, results CASCADE`

// cancelSQL ends the same batch as a cancel does.
const cancelSQL = `
WITH gone AS (DELETE FROM requests RETURNING line)
INSERT INTO results (batch_id, line, seq, state, attempts, routed_model, reason)
SELECT b(), line, line - 1, 'canceled', 0, '', 'batch_cancelled' FROM gone;
UPDATE cursors SET skipped = total - claimed, open = false;
UPDATE batches SET status = 'cancelled', canceled = 7, next_seq = 10, finished_at = now(), cancelling_at = now(),
       skipped_as = 'canceled', skip_seq = 5, skip_line = 6, skip_end = 10`

const idsSQL = `
CREATE FUNCTION b() RETURNS uuid IMMUTABLE LANGUAGE sql AS $$ SELECT '00000000-0000-7000-8000-00000000000b'::uuid $$;
CREATE FUNCTION f() RETURNS uuid IMMUTABLE LANGUAGE sql AS $$ SELECT '00000000-0000-7000-8000-00000000000f'::uuid $$;`

var id = batch.ID{6: 0x70, 8: 0x80, 15: 0x0b}

func newPool(t *testing.T) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), testenv.DatabaseURL(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	exec(t, pool, idsSQL)
	exec(t, pool, soundSQL)
	return pool
}

func exec(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	if _, err := pool.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestCheckFinds(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	if err := checker.CheckAll(t.Context(), pool); err != nil {
		t.Fatalf("a sound batch: %v", err)
	}
	exec(t, pool, cancelSQL)
	if err := checker.CheckAll(t.Context(), pool); err != nil {
		t.Fatalf("a cancelled batch: %v", err)
	}
	exec(t, pool, resetSQL)
	exec(t, pool, soundSQL)
	for _, test := range []struct{ name, damage, want string }{
		{"lost request", `DELETE FROM requests WHERE line = 4`, "line 4 is lost"},
		{"lost result", `DELETE FROM results WHERE line = 3`, "line 3 is lost"},
		{"live and ended", `UPDATE requests SET line = 3 WHERE line = 5`, "line 3 is processing and has a result"},
		{"row beyond the cursor", `UPDATE requests SET line = 9 WHERE line = 5`, "line 9 is beyond its cursor"},
		{"request of no line", `UPDATE requests SET line = 11 WHERE line = 5`, "request 11 is no line"},
		{"result of no line", `UPDATE results SET line = 12 WHERE line = 3`, "result 12 is no line"},
		{"wrong model", `UPDATE requests SET model = 'b' WHERE line = 5`, "request 5 is not of its line's file and model"},
		{"delivery", `UPDATE requests SET delivery = 0 WHERE line = 5`, "at claim 2, delivery 0"},
		{"backoff of a claimed request", `UPDATE requests SET not_before = now() WHERE line = 4`, "request 4 is claimed, due: false, and in backoff"},
		{"gap in seq", `UPDATE results SET seq = 7 WHERE line = 3`, "line 3 has seq 7, want 2"},
		{"next_seq", `UPDATE batches SET next_seq = 4`, "next_seq is 4, want 3"},
		{"completed", `UPDATE batches SET completed = 3`, "completed is 3, want 2"},
		{"failed", `UPDATE batches SET failed = 0`, "failed is 0, want 1"},
		{"canceled", `UPDATE batches SET canceled = 1`, "canceled is 1, want 0"},
		{"total", `UPDATE batches SET total = 11`, "total is 11, want 10"},
		{"claimed", `UPDATE cursors SET claimed = 4 WHERE model = 'a'`, `claimed is 4, want 3`},
		{"last line", `UPDATE cursors SET last_line = 6 WHERE model = 'a'`, "last_line 6 is no line of its model"},
		{"cursor behind", `UPDATE cursors SET last_line = 3, claimed = 2 WHERE model = 'a'`, "line 5 is beyond its cursor"},
		{"part skipped", `UPDATE cursors SET skipped = 1 WHERE model = 'a'`, "skipped is 1, want none or the rest, 2"},
		{"hole", `UPDATE requests SET line = 9 WHERE line = 5; UPDATE cursors SET holes = 1, claimed = 4 WHERE model = 'a'`, "line 5 is lost"},
		{"skipped as nothing", `UPDATE cursors SET skipped = total - claimed, open = false`, `5 lines were skipped, as ""`},
		{"skipped without a place", cancelSQL + `; UPDATE batches SET skip_end = 9, next_seq = 9`, "line 10 was skipped and has no place"},
		{"skipped place taken", cancelSQL + `; UPDATE results SET seq = 6 WHERE line = 5`, "result of line 5 has seq 6, want 4"},
		{"skipped and counted otherwise", cancelSQL + `; UPDATE batches SET skipped_as = 'expired'`, "expired is 0, want 5"},
		{"cancelled, by its status", cancelSQL + `; UPDATE batches SET status = 'completed'`, "status is completed, want cancelled"},
		{"tokens of a failed request", `UPDATE batch_usage SET input_tokens = 20`, "input tokens of model a is 20, want 10"},
		{"tokens of no request", `INSERT INTO batch_usage VALUES (b(), 'b', 0, 5, 0, 0)`, "output tokens of model b is 5, want 0"},
		{"tokens that were not counted", `DELETE FROM batch_usage`, "output tokens of model a is 0, want 20"},
		{"key of a batch that brought none", `INSERT INTO batch_keys VALUES (b(), '\x01')`, "keys that are stored and should not be is 1, want 0"},
		{"no cursor", `DELETE FROM cursors WHERE model = 'b'`, `model "b" has lines and no cursor`},
		{"finished with live requests", `UPDATE batches SET status = 'completed', finished_at = now(), completed = 9`, "with 2 live requests"},
		{"not finished", `UPDATE batches SET completed = 9`, "status is in_progress with 10 of 10 requests ended"},
	} {
		t.Run(test.name, func(t *testing.T) {
			exec(t, pool, test.damage)
			err := checker.Check(t.Context(), pool, id)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, want %q", err, test.want)
			}
			exec(t, pool, resetSQL)
			exec(t, pool, soundSQL)
		})
	}
}

func TestUnchanged(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	before, err := checker.Snapshot(t.Context(), pool, id)
	if err != nil {
		t.Fatal(err)
	}
	if before.Len() != 3 {
		t.Errorf("%d results, want 3", before.Len())
	}
	for _, test := range []struct{ name, sql, want string }{
		{"nothing", ``, ""},
		{"another one", `INSERT INTO results (batch_id, line, seq, state, attempts, routed_model) VALUES (b(), 5, 3, 'completed', 1, 'a')`, ""},
		{"body", `UPDATE results SET body = 'x' WHERE line = 2`, "the result of line 2 changed"},
		{"gone", `DELETE FROM results WHERE line = 1`, "the result of line 1 is gone"},
		{"put before", `UPDATE results SET seq = 1 WHERE line = 5`, "the result of line 5 was put before others"},
	} {
		exec(t, pool, test.sql)
		err := before.Unchanged(t.Context(), pool)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

// After a retry, what did not complete may be gone or have a new place.
func TestUnchangedByARetry(t *testing.T) {
	t.Parallel()
	pool := newPool(t)
	before, err := checker.Snapshot(t.Context(), pool, id)
	if err != nil {
		t.Fatal(err)
	}
	exec(t, pool, `UPDATE batches SET retries = 1`)
	for _, test := range []struct{ name, sql, want string }{
		{"gone", `DELETE FROM results WHERE line = 1`, ""},
		{"again", `INSERT INTO results (batch_id, line, seq, state, attempts, routed_model) VALUES (b(), 1, 3, 'completed', 1, 'a')`, ""},
		{"again in its old place", `UPDATE results SET seq = 1 WHERE line = 1`, "the result of line 1 changed"},
		{"completed", `DELETE FROM results WHERE line = 2`, "the result of line 2 is gone"},
	} {
		exec(t, pool, test.sql)
		err := before.Unchanged(t.Context(), pool)
		if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
}

func TestCheckUnknownBatch(t *testing.T) {
	t.Parallel()
	if err := checker.Check(t.Context(), newPool(t), batch.ID{1}); err == nil {
		t.Error("no error")
	}
}
