// River measures River beside fusillade: inserts in transactions of their own, as
// BenchmarkSubmitTx makes batches of one request, and with -url jobs that call a model
// endpoint, as `fusillade bench` does.
//
//	go run -C bench/river . -database URL -inserts 3000 -clients 8
//	go run -C bench/river . -database URL -url http://127.0.0.1:8080 -requests 20000 -concurrency 64
package main

import (
	"context"
	"errors"
	"flag"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// client is River's, of Postgres.
type client = river.Client[pgx.Tx]

func main() {
	database := flag.String("database", "", "URL of an empty database, which River's migrations change")
	inserts := flag.Int64("inserts", 3000, "how many")
	clients := flag.Int("clients", 1, "how many at once")
	w := work{}
	flag.StringVar(&w.url, "url", "", "model endpoint that jobs call; empty: inserts are measured")
	flag.IntVar(&w.requests, "requests", 20000, "jobs")
	flag.IntVar(&w.concurrency, "concurrency", 64, "jobs at once")
	flag.IntVar(&w.bodyBytes, "body-bytes", 1024, "size of a request's body")
	flag.Parse()
	if err := run(context.Background(), *database, func(ctx context.Context, pool *pgxpool.Pool) error {
		if w.url != "" {
			return w.measure(ctx, pool)
		}
		return measureInserts(ctx, pool, *inserts, *clients)
	}); err != nil {
		log.Fatal(err)
	}
}

// run measures on a database that River has migrated.
func run(ctx context.Context, database string, measure func(context.Context, *pgxpool.Pool) error) error {
	if database == "" {
		return errors.New("-database is required: the URL of an empty database")
	}
	pool, err := pgxpool.New(ctx, database)
	if err != nil {
		return err
	}
	defer pool.Close()
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), nil)
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	return measure(ctx, pool)
}
