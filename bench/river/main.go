// River measures what one insert of River costs in a transaction of its own, as
// BenchmarkSubmitTx does of a batch of one request.
//
//	go run -C bench/river . -database URL -inserts 3000 -clients 8
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// callArgs are the arguments of a job: the request of BenchmarkSubmitTx.
type callArgs struct {
	CustomID string          `json:"custom_id"`
	Body     json.RawMessage `json:"body"`
}

// Kind implements river.JobArgs.
func (callArgs) Kind() string { return "call" }

func main() {
	database := flag.String("database", "", "URL of an empty database, which River's migrations change")
	inserts := flag.Int64("inserts", 3000, "how many")
	clients := flag.Int("clients", 1, "how many at once")
	flag.Parse()
	if err := run(context.Background(), *database, *inserts, *clients); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, database string, inserts int64, clients int) error {
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	client, err := river.NewClient(driver, &river.Config{})
	if err != nil {
		return err
	}
	args := callArgs{"r0", json.RawMessage(`{"messages":[],"model":"gpt-4"}`)}
	insert := func() error {
		return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			_, err := client.InsertTx(ctx, tx, args, nil)
			return err
		})
	}
	if err := insert(); err != nil { // statements are prepared, connections opened
		return err
	}
	before, err := walBytes(ctx, pool)
	if err != nil {
		return err
	}
	began := time.Now()
	if err := concurrently(clients, inserts, insert); err != nil {
		return err
	}
	took := time.Since(began)
	after, err := walBytes(ctx, pool)
	if err != nil {
		return err
	}
	fmt.Printf("clients=%d %d inserts: %.0f inserts/s, %d WAL-B/insert\n", clients, inserts, float64(inserts)/took.Seconds(), (after-before)/inserts)
	return nil
}

func concurrently(clients int, n int64, do func() error) error {
	var left atomic.Int64
	left.Store(n)
	failed := make(chan error, clients)
	var working sync.WaitGroup
	for range clients {
		working.Go(func() {
			for left.Add(-1) >= 0 {
				if err := do(); err != nil {
					failed <- err
					return
				}
			}
		})
	}
	working.Wait()
	close(failed)
	return <-failed
}

func walBytes(ctx context.Context, pool *pgxpool.Pool) (n int64, err error) {
	err = pool.QueryRow(ctx, `SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint`).Scan(&n)
	return n, err
}
