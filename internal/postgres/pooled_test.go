//go:build unix

package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
	"fusillade/internal/pgconnect"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/pooler"
	"fusillade/migrations"
)

// ignored has pgbouncer drop the settings of a startup message, which it refuses
// otherwise.
func ignored() string {
	var names []string
	for _, setting := range pgconnect.Settings() {
		names = append(names, setting[0])
	}
	return "ignore_startup_parameters = " + strings.Join(names, ",")
}

func openPooled(t *testing.T, direct, through string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{URL: through, DirectURL: direct, MaxConns: 12, ApplicationName: t.Name()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// Whether it refuses settings or drops them, a pooler is seen, and refused where
// nothing leads past it.
func TestPoolerNeedsADirectURL(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{"refuses settings": nil, "drops settings": {ignored()}, "in session mode": {"pool_mode = session"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.DatabaseURL(t)
			through := pooler.Start(t, url, lines...).URL
			if _, err := Open(t.Context(), Config{URL: through}); !errors.Is(err, pgconnect.ErrPooler) || !pgconnect.Unfit(err) {
				t.Errorf("without a direct URL: %v", err)
			}
			if _, err := Open(t.Context(), Config{URL: url, DirectURL: through}); !errors.Is(err, pgconnect.ErrDirectPooler) {
				t.Errorf("a direct URL that is none: %v", err)
			}
			if _, err := Open(t.Context(), Config{URL: through, DirectURL: testenv.DatabaseURL(t)}); err == nil || !strings.Contains(err.Error(), "different databases") {
				t.Errorf("a direct URL of another database: %v", err)
			}
			if err := migrations.Up(t.Context(), through); !errors.Is(err, pgconnect.ErrPooler) {
				t.Errorf("migrating: %v", err)
			}
			if _, err := migrations.List(t.Context(), through); !errors.Is(err, pgconnect.ErrPooler) {
				t.Errorf("listing migrations: %v", err)
			}
			openPooled(t, url, through)
		})
	}
}

// A pooler that passes all settings on, so that nothing tells it from a server,
// is known by the session that it gives to two.
func TestPoolerThatPassesSettingsIsSeen(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	through := pooler.Start(t, url, ignored()).URL
	cfg, err := pgx.ParseConfig(through)
	if err != nil {
		t.Fatal(err)
	}
	database := pgx.Identifier{cfg.Database}.Sanitize()
	admin := openStore(t, url)
	for _, setting := range pgconnect.Settings() {
		sqlExec(t, admin, `ALTER DATABASE `+database+` SET `+setting[0]+` = '`+setting[1]+`'`)
	}
	if _, err := Open(t.Context(), Config{URL: through}); !errors.Is(err, pgconnect.ErrPooler) {
		t.Errorf("%v", err)
	}
}

// Many use few sessions at once, and every one of their transactions has the
// settings of ours, whatever the role's are.
func TestPooledTransactionsHaveTheirSettings(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	through := pooler.Start(t, url, "default_pool_size = 2").URL
	s := openPooled(t, url, through)
	const shown = `SELECT current_setting('plan_cache_mode') || ' ' || current_setting('enable_seqscan')`
	const want = "force_generic_plan off"
	var running sync.WaitGroup
	for i := range 8 {
		running.Go(func() {
			for range 20 {
				var got string
				if err := s.queryRow(t.Context(), shown, nil, &got); err != nil || got != want {
					t.Errorf("a statement ran with %q, %v", got, err)
				}
				err := s.inTx(t.Context(), func(ctx context.Context, tx pgx.Tx) error {
					return tx.QueryRow(ctx, shown).Scan(&got)
				})
				if err != nil || got != want {
					t.Errorf("a transaction ran with %q, %v", got, err)
				}
				model := batch.Model(fmt.Sprintf("model-%d", i))
				batchOf(t, s, newFile(t, s, templates(1, 3, model)))
			}
		})
	}
	running.Wait()
	var outside string
	if err := s.pool.QueryRow(t.Context(), `SHOW enable_seqscan`).Scan(&outside); err != nil || outside != "on" {
		t.Errorf("a session kept the setting %q, %v", outside, err)
	}
	if err := s.queryRow(t.Context(), `SELECT 1 FROM files WHERE false`, nil, new(int)); !errors.Is(err, batch.ErrNotFound) {
		t.Errorf("no row: %v", err)
	}
	if err := s.queryRow(t.Context(), `SELECT 1/0`, nil, new(int)); Classify(err) != Suspect {
		t.Errorf("a statement that fails: %v", err)
	}
	// What failed left no session in the middle of a transaction.
	if err := s.queryRow(t.Context(), `SELECT 1`, nil, new(int)); err != nil {
		t.Error(err)
	}
}

// The whole life of requests, through a pooler.
func TestStoreAgreesWithModelThroughAPooler(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	agrees(t, openPooled(t, url, pooler.Start(t, url).URL), 25)
}

// What no session can change through a pooler is refused; all else is pinned.
func TestOddDefaultsBehindAPooler(t *testing.T) {
	t.Parallel()
	url := testenv.DatabaseURL(t)
	d := newDefaults(t, url)
	for _, setting := range oddDefaults {
		if setting.name != "idle_session_timeout" { // of the pooler's sessions, which are idle
			// Statements are described outside of the transaction that they run in.
			d.exec(`ALTER DATABASE %s SET %s = '%s'`, d.database, setting.name, strings.ReplaceAll(setting.odd, "1ms", "2s"))
		}
	}
	through := pooler.Start(t, url).URL
	_, err := Open(t.Context(), Config{URL: through, DirectURL: url})
	if !pgconnect.Unfit(err) || !strings.Contains(err.Error(), "default_transaction_isolation") {
		t.Fatalf("%v", err)
	}
	d.exec(`ALTER DATABASE %s RESET default_transaction_isolation`, d.database)
	again := pooler.Start(t, url).URL
	s := openPooled(t, url, again)
	for _, setting := range oddDefaults {
		var got string
		err := s.queryRow(t.Context(), `SELECT COALESCE(current_setting($1, true), '')`, []any{setting.name}, &got)
		if err != nil || got != setting.want && got != "" {
			t.Errorf("%s is %s, want %s: %v", setting.name, got, setting.want, err)
		}
	}
	batchOf(t, s, newFile(t, s, templates(1, 3, testModel)))
}
