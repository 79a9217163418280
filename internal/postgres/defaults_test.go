package postgres

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/pgconnect"
	"fusillade/internal/testenv"
	"fusillade/migrations"
)

// oddDefaults are settings that break programs which take the usual ones for
// granted, and what sessions of ours have instead.
var oddDefaults = []struct{ name, odd, want string }{
	{"default_transaction_isolation", "serializable", "read committed"},
	{"default_transaction_deferrable", "on", "off"},
	{"statement_timeout", "1ms", "0"},
	{"lock_timeout", "1ms", "0"},
	{"idle_in_transaction_session_timeout", "1ms", "0"},
	{"idle_session_timeout", "1ms", "0"},
	{"transaction_timeout", "5s", "0"}, // of Postgres 17; the first statement of a session is bound by it
	{"DateStyle", "German", "ISO, MDY"},
	{"IntervalStyle", "iso_8601", "postgres"},
	{"TimeZone", "Pacific/Chatham", "UTC"},
	{"bytea_output", "escape", "hex"},
	{"extra_float_digits", "-15", "1"},
	{"standard_conforming_strings", "off", "on"},
	{"array_nulls", "off", "on"},
	{"transform_null_equals", "on", "off"},
	{"row_security", "off", "on"},
	{"client_encoding", "LATIN1", "UTF8"},
	{"synchronous_commit", "off", "on"},
	{"plan_cache_mode", "force_custom_plan", "force_generic_plan"},
	{"jit", "on", "off"},
	{"enable_seqscan", "on", "off"},
	{"enable_bitmapscan", "on", "off"},
	{"enable_hashjoin", "on", "off"},
	{"enable_mergejoin", "on", "off"},
	{"enable_indexscan", "off", "on"},
	{"enable_indexonlyscan", "off", "on"},
	{"enable_nestloop", "off", "on"},
}

// defaults changes what sessions on a database begin with.
type defaults struct {
	t        *testing.T
	conn     *pgx.Conn // has begun before any change
	database string
}

func newDefaults(t *testing.T, url string) *defaults {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &defaults{t: t, conn: conn, database: pgx.Identifier{conn.Config().Database}.Sanitize()}
}

// exec changes a default, or fails the test. It returns false for a setting that
// this version of Postgres does not know.
func (d *defaults) exec(format string, args ...any) bool {
	d.t.Helper()
	// A literal and not an argument: these are no statements that take any.
	_, err := d.conn.Exec(d.t.Context(), fmt.Sprintf(format, args...))
	if err != nil && strings.Contains(err.Error(), "unrecognized configuration parameter") {
		return false
	}
	if err != nil {
		d.t.Fatal(err)
	}
	return true
}

// Whatever a role or a database has for a default, the store's sessions have
// their own settings.
func TestOddDefaultsArePinned(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"ALTER DATABASE %[1]s", "ALTER ROLE CURRENT_USER IN DATABASE %[1]s"} {
		t.Run(strings.Fields(by)[1], func(t *testing.T) {
			t.Parallel()
			url := testenv.DatabaseURL(t)
			d := newDefaults(t, url)
			for _, setting := range oddDefaults {
				if !d.exec(by+" SET %[2]s = '%[3]s'", d.database, setting.name, setting.odd) {
					t.Logf("this version has no %s", setting.name)
					continue
				}
				s := openStore(t, url)
				session, err := s.session(t.Context())
				if err != nil {
					t.Fatalf("%s: %v", setting.name, err)
				}
				var got, own string
				if err := s.queryRow(t.Context(), `SELECT current_setting($1)`, []any{setting.name}, &got); err != nil || got != setting.want {
					t.Errorf("%s is %s, want %s: %v", setting.name, got, setting.want, err)
				}
				if err := session.QueryRow(t.Context(), `SELECT current_setting($1)`, setting.name).Scan(&own); err != nil || own != setting.want {
					t.Errorf("%s of a session of its own is %s, want %s: %v", setting.name, own, setting.want, err)
				}
				closeSession(t.Context(), session)
				s.Close()
			}
			// All at once: the whole life of requests.
			agrees(t, openStore(t, url), 20)
		})
	}
}

// A stronger choice than ours stays.
func TestSynchronousCommitOfTheOperatorStays(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	d := newDefaults(t, url)
	d.exec(`ALTER DATABASE %s SET synchronous_commit = 'remote_apply'`, d.database)
	var got string
	if err := openStore(t, url).queryRow(t.Context(), `SHOW synchronous_commit`, nil, &got); err != nil || got != "remote_apply" {
		t.Errorf("synchronous_commit is %s, %v", got, err)
	}
}

// Migrations run under odd defaults too, and find what they made.
func TestMigrationsUnderOddDefaults(t *testing.T) {
	t.Parallel()
	url := testenv.EmptyDatabaseURL(t)
	d := newDefaults(t, url)
	for _, setting := range oddDefaults {
		d.exec(`ALTER DATABASE %s SET %s = '%s'`, d.database, setting.name, setting.odd)
	}
	if err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Down(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	openStore(t, url)
}

// What a session cannot set for itself is refused, with the way out.
func TestOddDefaultsAreRefused(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	d := newDefaults(t, url)
	d.exec(`ALTER DATABASE %s SET session_replication_role = 'replica'`, d.database)
	_, err := Open(t.Context(), Config{URL: url})
	if !pgconnect.Unfit(err) || !strings.Contains(err.Error(), "session_replication_role") {
		t.Errorf("%v", err)
	}
	d.exec(`ALTER DATABASE %s RESET session_replication_role`, d.database)
	d.exec(`ALTER DATABASE %s SET default_transaction_read_only = 'on'`, d.database)
	if _, err = Open(t.Context(), Config{URL: url}); err == nil || pgconnect.Unfit(err) {
		t.Errorf("a database that takes no writes, which may pass: %v", err)
	}
}

// A database in another encoding cannot hold every prompt.
func TestOtherEncodingsAreRefused(t *testing.T) {
	t.Parallel()
	for _, encoding := range []string{"LATIN1", "SQL_ASCII"} {
		base := testenv.EmptyDatabaseURL(t)
		d := newDefaults(t, base)
		name := d.conn.Config().Database + "_" + strings.ToLower(encoding)
		d.exec(`CREATE DATABASE %s ENCODING '%s' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`, pgx.Identifier{name}.Sanitize(), encoding)
		t.Cleanup(func() {
			if _, err := d.conn.Exec(context.Background(), `DROP DATABASE `+pgx.Identifier{name}.Sanitize()+` WITH (FORCE)`); err != nil {
				t.Error(err)
			}
		})
		u, err := url.Parse(base)
		if err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + name
		if _, err := Open(t.Context(), Config{URL: u.String()}); !pgconnect.Unfit(err) || !strings.Contains(err.Error(), encoding) {
			t.Errorf("%s: %v", encoding, err)
		}
		if err := migrations.Up(t.Context(), u.String()); !pgconnect.Unfit(err) || !strings.Contains(err.Error(), encoding) {
			t.Errorf("migrating %s: %v", encoding, err)
		}
	}
}

// A search_path that misses our tables is told, and never leads to a second set.
func TestTablesInAnotherSchema(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	d := newDefaults(t, url)
	d.exec(`CREATE SCHEMA other; ALTER DATABASE %s SET search_path = other`, d.database)
	for name, err := range map[string]error{
		"up":   migrations.Up(t.Context(), url),
		"list": func() error { _, err := migrations.List(t.Context(), url); return err }(),
	} {
		if err == nil || !strings.Contains(err.Error(), `"public"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
	in := url + "&search_path=public"
	if !strings.Contains(url, "?") {
		in = url + "?search_path=public"
	}
	if err := migrations.Up(t.Context(), in); err != nil {
		t.Error(err)
	}
	openStore(t, in)
}
