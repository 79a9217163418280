package migrations_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"fusillade/internal/testenv"
)

// Every column that holds bodies is compressed by lz4 where the server has it.
func TestBodiesAreCompressedByLZ4(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	conn, err := pgx.Connect(ctx, testenv.DatabaseURL(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	var has bool
	err = conn.QueryRow(ctx, `SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression'`).Scan(&has)
	if err != nil {
		t.Fatal(err)
	}
	rows, _ := conn.Query(ctx, `
SELECT attrelid::regclass || '.' || attname FROM pg_attribute WHERE attcompression = 'l' AND attnum > 0 ORDER BY 1`)
	got, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	want := []string{}
	if has {
		want = []string{"results.body", "templates.body"}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("compressed by lz4 (-want +got):\n%s", diff)
	}
}
