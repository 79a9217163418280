package testcluster

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/checker"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// Database is a migrated database of one test, and the store on it.
type Database struct {
	T           testing.TB
	DatabaseURL string
	Store       *postgres.Store
	DB          *pgxpool.Pool // to look at the tables themselves
}

// NewDatabase returns an empty one. When the test is done, and the daemons that it
// started later have ended, the checker looks at every batch.
func NewDatabase(t testing.TB) *Database {
	t.Helper()
	d := &Database{T: t, DatabaseURL: testenv.DatabaseURL(t)}
	var err error
	if d.Store, err = postgres.Open(t.Context(), postgres.Config{URL: d.DatabaseURL}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Store.Close)
	if d.DB, err = pgxpool.New(t.Context(), d.DatabaseURL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.DB.Close)
	checker.AtEnd(t, d.DB)
	return d
}

// Count reads one number from the tables.
func (d *Database) Count(sql string, args ...any) (n int64) {
	d.T.Helper()
	if err := d.DB.QueryRow(d.T.Context(), sql, args...).Scan(&n); err != nil {
		d.T.Fatal(err)
	}
	return n
}

// Exec changes the tables behind the store's back.
func (d *Database) Exec(sql string, args ...any) {
	d.T.Helper()
	if _, err := d.DB.Exec(d.T.Context(), sql, args...); err != nil {
		d.T.Fatal(err)
	}
}
