package fusillade_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade"
	"fusillade/internal/testenv"
)

// benched is a Fusillade on its own database, and a pool of the program's there.
func benched(b *testing.B, change func(*fusillade.Config)) (*fusillade.Fusillade, *pgxpool.Pool) {
	b.Helper()
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.Upstream = testenv.DatabaseURL(b), "http://127.0.0.1:1"
	cfg.NATS = testenv.Connect(b, testenv.NATS(b))
	change(&cfg)
	pool, err := pgxpool.New(b.Context(), cfg.DatabaseURL)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	f, err := fusillade.New(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := f.Close(); err != nil {
			b.Error(err)
		}
	})
	return f, pool
}

func walBytes(b *testing.B, pool *pgxpool.Pool) (n int64) {
	b.Helper()
	if err := pool.QueryRow(b.Context(), `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&n); err != nil {
		b.Fatal(err)
	}
	return n
}

// A batch of one request, in a transaction of its own, with nobody at work on it:
// bench/river does the same with River.
func BenchmarkSubmitTx(b *testing.B) {
	for _, clients := range []int{1, 8} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			f, pool := benched(b, func(*fusillade.Config) {})
			one := requests(1)
			submit := func(ctx context.Context) error {
				return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
					_, err := f.SubmitTx(ctx, tx, one, fusillade.SubmitOptions{})
					return err
				})
			}
			if err := submit(b.Context()); err != nil {
				b.Fatal(err)
			}
			before := walBytes(b, pool)
			var left atomic.Int64
			left.Store(int64(b.N))
			var working sync.WaitGroup
			b.ResetTimer()
			for range clients {
				working.Go(func() {
					for left.Add(-1) >= 0 {
						if err := submit(b.Context()); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			working.Wait()
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "submits/s")
			b.ReportMetric(float64(walBytes(b, pool)-before)/float64(b.N), "WAL-B/submit")
		})
	}
}

// silence has the submits of a pool notify nobody.
func silence(b *testing.B, pool *pgxpool.Pool) {
	b.Helper()
	_, err := pool.Exec(b.Context(), `
CREATE SCHEMA silent;
CREATE FUNCTION silent.pg_notify(text, text) RETURNS void LANGUAGE sql AS '';
DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = silent, pg_catalog, public', current_database()); END $$`)
	if err != nil {
		b.Fatal(err)
	}
	pool.Reset() // the next sessions begin so; those that there are, do not
}

// idle is for how long nothing happens before a submit: within it a consumer takes
// what comes for one of many, and gathers more before it starts any.
const idle = 100 * time.Millisecond

// Time from the commit to the first call, on an idle system: with Postgres's
// notification, and with the poll alone.
func BenchmarkSubmitTxToCall(b *testing.B) {
	for name, poll := range map[string]time.Duration{"notified": time.Hour, "polled/20ms": 20 * time.Millisecond} {
		b.Run(name, func(b *testing.B) {
			called := make(chan time.Time, 1)
			var answers atomic.Int64
			f, pool := benched(b, func(c *fusillade.Config) {
				c.ClaimInterval = poll
				c.Transport = roundTripper(func(r *http.Request) (*http.Response, error) {
					called <- time.Now()
					answers.Add(1)
					return answer(r), nil
				})
			})
			if name != "notified" {
				silence(b, pool)
			}
			testenv.Run(b, f.Run)
			one := requests(1)
			submit := func() (time.Time, fusillade.BatchID) {
				tx, err := pool.Begin(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				id, err := f.SubmitTx(b.Context(), tx, one, fusillade.SubmitOptions{})
				if err != nil {
					b.Fatal(err)
				}
				if err := tx.Commit(b.Context()); err != nil {
					b.Fatal(err)
				}
				return time.Now(), id
			}
			wait := func(id fusillade.BatchID) {
				if _, err := f.Wait(b.Context(), id); err != nil {
					b.Fatal(err)
				}
			}
			_, id := submit() // it leads, and listens
			<-called
			wait(id)
			var times []time.Duration
			for b.Loop() {
				<-time.After(idle)
				committed, id := submit()
				times = append(times, (<-called).Sub(committed))
				wait(id)
			}
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds())/1000, "p99-ms")
		})
	}
}
