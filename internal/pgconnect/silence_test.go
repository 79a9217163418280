package pgconnect_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/pgconnect"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/proxy"
)

// probe is short for a server that never answers, and long for one that does on a
// busy machine.
const silence, probe = 50 * time.Millisecond, 2 * time.Second

func TestMain(m *testing.M) { testenv.Main(m) }

func guarded(t *testing.T, url string) (*pgconnect.Guard, *pgx.Conn) {
	t.Helper()
	cfg, err := pgconnect.Parse(url)
	if err != nil {
		t.Fatal(err)
	}
	g := pgconnect.NewGuard()
	g.SetTimes(silence, probe)
	g.Install(cfg)
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return g, conn
}

// A server that swallows everything is left, long before the statement's time is
// over.
func TestSilentServerIsLeft(t *testing.T) {
	t.Parallel()
	p, url := proxy.Postgres(t, testenv.DatabaseURL(t))
	g, conn := guarded(t, url)
	p.Stall()
	ctx, cancel := context.WithTimeout(t.Context(), testenv.Patience)
	defer cancel()
	if _, err := conn.Exec(ctx, `SELECT 1`); err == nil || ctx.Err() != nil {
		t.Errorf("a statement on a silent server ended with %v, its time with %v", err, ctx.Err())
	}
	testenv.Eventually(t, "no connection is watched any more", func() bool { return g.Watched() == 0 })
}

// A server that answers, and is slow with one answer, is not left.
func TestSlowServerIsNotLeft(t *testing.T) {
	t.Parallel()
	_, conn := guarded(t, testenv.DatabaseURL(t))
	if _, err := conn.Exec(t.Context(), fmt.Sprintf(`SELECT pg_sleep(%g)`, (10*silence).Seconds())); err != nil {
		t.Error(err)
	}
	if _, err := conn.Exec(t.Context(), `SELECT 1`); err != nil {
		t.Error(err)
	}
}
