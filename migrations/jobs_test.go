package migrations_test

import (
	"testing"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/testenv"
	"fusillade/migrations"
)

// What `fusillade run` of the release before left unfinished is a job of the
// owner that there is now, and goes back with the migration.
func TestJobsOfTheReleaseBefore(t *testing.T) {
	t.Parallel()
	ctx, url := testContext(t), testenv.DatabaseURL(t)
	for undone := false; !undone; {
		if err := migrations.Down(ctx, url); err != nil {
			t.Fatal(err)
		}
		all, err := migrations.List(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range all {
			undone = undone || m.Name == "00050_jobs.sql" && m.AppliedAt.IsZero()
		}
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, `
INSERT INTO files (id, filename, created_by, status, requests, endpoint, bytes, sha256)
SELECT gen_random_uuid(), name, owner, 'ready', 1, '/v1/chat/completions', 1, sha256(name::bytea)
  FROM (VALUES ('a.jsonl', 'fusillade run'), ('b.jsonl', 'alice')) AS f (name, owner);
INSERT INTO batches (id, file_id, endpoint, completion_window, expires_at, metadata, created_by, total)
SELECT gen_random_uuid(), id, endpoint, '24h', now() + interval '24 h', '{}', created_by, 1 FROM files;
INSERT INTO cursors (batch_id, model, file_id, total) SELECT id, 'm', file_id, 1 FROM batches`); err != nil {
		t.Fatal(err)
	}
	owners := func() (names string) {
		t.Helper()
		if err := conn.QueryRow(ctx, `
SELECT string_agg(concat_ws(' ', f.filename, f.created_by, b.created_by, c.created_by), ', ' ORDER BY f.filename)
  FROM files f JOIN batches b ON b.file_id = f.id JOIN cursors c ON c.batch_id = b.id`).Scan(&names); err != nil {
			t.Fatal(err)
		}
		return names
	}
	before := owners()
	if err := migrations.Up(ctx, url); err != nil {
		t.Fatal(err)
	}
	if got, want := owners(), "a.jsonl local local local, b.jsonl alice alice alice"; got != want {
		t.Errorf("owners are %s, want %s", got, want)
	}
	var jobs, input string
	if err := conn.QueryRow(ctx, `SELECT count(*)::text, min(input) FROM jobs`).Scan(&jobs, &input); err != nil || jobs != "1" || input != "a.jsonl" {
		t.Errorf("%s jobs of %q, %v", jobs, input, err)
	}
	for owners() != before {
		if err := migrations.Down(ctx, url); err != nil {
			t.Fatalf("owners are %s, want %s: %v", owners(), before, err)
		}
	}
}
