package migrations_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"fusillade/internal/testenv"
	"fusillade/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// migrationFiles makes a file system of names and what each does and undoes.
func migrationFiles(files map[string][2]string) fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, sql := range files {
		fsys[name] = &fstest.MapFile{Data: []byte("-- +goose Up\n" + sql[0] + ";\n-- +goose Down\n" + sql[1] + ";\n")}
	}
	return fsys
}

// applied lists the names of the applied migrations.
func applied(statuses []migrations.Status) []string {
	names := []string{}
	for _, s := range statuses {
		if !s.AppliedAt.IsZero() {
			names = append(names, s.Name)
		}
	}
	return names
}

func TestRealMigrationsGoUpAndDown(t *testing.T) {
	t.Parallel()
	ctx, url := testContext(t), testenv.EmptyDatabaseURL(t)
	list := func() []migrations.Status {
		t.Helper()
		all, err := migrations.List(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	all := list()
	if got := applied(all); len(got) > 0 {
		t.Errorf("an empty database has %v", got)
	}
	for range 2 {
		for range 2 {
			if err := migrations.Up(ctx, url); err != nil {
				t.Fatal(err)
			}
		}
		if got := applied(list()); len(got) != len(all) {
			t.Errorf("Up applied %v of %d migrations", got, len(all))
		}
		for range all {
			if err := migrations.Down(ctx, url); err != nil {
				t.Fatal(err)
			}
		}
		if got := applied(list()); len(got) > 0 {
			t.Errorf("Down left %v", got)
		}
	}
	if err := migrations.Down(ctx, url); !errors.Is(err, migrations.ErrNothingApplied) {
		t.Errorf("one Down too many = %v, want ErrNothingApplied", err)
	}
}

// Nothing but the lock keeps these files from being run twice.
func TestUpIsRunOnceByManyAtOnce(t *testing.T) {
	t.Parallel()
	ctx, url := testContext(t), testenv.EmptyDatabaseURL(t)
	files := migrationFiles(map[string][2]string{
		"00001_runs.sql": {"CREATE TABLE runs (n int)", "DROP TABLE runs"},
		"00002_slow.sql": {"INSERT INTO runs SELECT 1 FROM pg_sleep(0.2)", "DELETE FROM runs"},
		"00003_more.sql": {"INSERT INTO runs VALUES (1)", "DELETE FROM runs"},
	})
	var group errgroup.Group
	for range 8 {
		group.Go(func() error { return migrations.UpFiles(ctx, files, url) })
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	var runs, versions int
	const q = `SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM goose_db_version WHERE version_id > 0)`
	if err := conn.QueryRow(ctx, q).Scan(&runs, &versions); err != nil {
		t.Fatal(err)
	}
	if runs != 2 || versions != 3 {
		t.Errorf("two inserts ran %d times, three migrations were recorded %d times", runs, versions)
	}
}

func TestWaitForTheLockIsBounded(t *testing.T) {
	t.Parallel()
	ctx, url := testContext(t), testenv.EmptyDatabaseURL(t)
	holder, err := pgx.Connect(ctx, url)
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close(ctx)
	if _, err := holder.Exec(ctx, `SELECT pg_advisory_lock($1)`, migrations.LockID); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := migrations.Up(short, url); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Up under another's lock = %v, want the deadline", err)
	}
	if _, err := migrations.List(ctx, url); err != nil {
		t.Errorf("List under another's lock = %v", err)
	}
	if err := holder.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(ctx, url); err != nil {
		t.Errorf("Up after the holder is gone = %v", err)
	}
}

func TestFailureNamesTheMigration(t *testing.T) {
	t.Parallel()
	ctx, url := testContext(t), testenv.EmptyDatabaseURL(t)
	files := migrationFiles(map[string][2]string{
		"00001_good.sql": {"CREATE TABLE good ()", "DROP TABLE missing"},
		"00002_bad.sql":  {"CREATE TABLE half (); CREATE TABLE good ()", "SELECT 1"},
	})
	err := migrations.UpFiles(ctx, files, url)
	if err == nil || !strings.Contains(err.Error(), "00002_bad.sql") {
		t.Errorf("Up = %v, want an error that names 00002_bad.sql", err)
	}
	statuses, err := migrations.ListFiles(ctx, files, url)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"00001_good.sql"}, applied(statuses)); diff != "" {
		t.Errorf("applied (-want +got):\n%s", diff)
	}
	err = migrations.DownFiles(ctx, files, url)
	if err == nil || !strings.Contains(err.Error(), "00001_good.sql") {
		t.Errorf("Down = %v, want an error that names 00001_good.sql", err)
	}
}

func TestDatabaseNewerThanTheBuild(t *testing.T) {
	t.Parallel()
	ctx, url := testContext(t), testenv.EmptyDatabaseURL(t)
	old := map[string][2]string{"00001_a.sql": {"CREATE TABLE a ()", "DROP TABLE a"}}
	newer := migrationFiles(old)
	newer["00002_b.sql"] = migrationFiles(map[string][2]string{"b": {"CREATE TABLE b ()", "DROP TABLE b"}})["b"]
	if err := migrations.UpFiles(ctx, newer, url); err != nil {
		t.Fatal(err)
	}
	if err := migrations.UpFiles(ctx, migrationFiles(old), url); err != nil {
		t.Errorf("Up with an older build = %v, want nothing done", err)
	}
	err := migrations.DownFiles(ctx, migrationFiles(old), url)
	if err == nil || !strings.Contains(err.Error(), "migration 2 is not part of this build") {
		t.Errorf("Down with an older build = %v", err)
	}
}

func TestErrorsHideThePassword(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t"
	for _, url := range []string{
		"postgres://u:" + secret + "@127.0.0.1:1/db",
		"postgres://u:" + secret + "/x@host/db",
		"postgres://u:" + secret + "%zz@host/db",
		"host=127.0.0.1 port=1 user=u password=" + secret,
	} {
		_, listErr := migrations.List(testContext(t), url)
		for _, err := range []error{migrations.Up(testContext(t), url), migrations.Down(testContext(t), url), listErr} {
			if err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("error %v, want one without the password", err)
			}
		}
	}
}
