package main

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
)

// callArgs are the arguments of a job: a request.
type callArgs struct {
	CustomID string          `json:"custom_id"`
	Body     json.RawMessage `json:"body"`
}

// Kind implements river.JobArgs.
func (callArgs) Kind() string { return "call" }

// measureInserts prints how many inserts a second some clients make, and what they
// write to the log of Postgres.
func measureInserts(ctx context.Context, pool *pgxpool.Pool, inserts int64, clients int) error {
	client, err := river.NewClient(riverpgxv5.New(pool), &river.Config{})
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
