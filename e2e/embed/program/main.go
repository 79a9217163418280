// Program embeds Fusillade, for tests that kill it.
//
//	program work DATABASE NATS UPSTREAM             until it is told to stop
//	program submit DATABASE NATS UPSTREAM INSTANT   and dies at an instant of the transaction
package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"fusillade"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what string, args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	db, err := pgxpool.New(ctx, args[0])
	if err != nil {
		return err
	}
	defer db.Close()
	conn, err := nats.Connect(args[1])
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.NATS, cfg.Upstream = args[0], conn, args[2]
	cfg.HeartbeatInterval, cfg.StaleDaemonThreshold, cfg.ClaimTimeout = time.Second, 3*time.Second, 5*time.Second
	cfg.OnResult = func(ctx context.Context, r fusillade.Result) error {
		_, err := db.Exec(ctx, `INSERT INTO mine.called VALUES ($1)`, r.CustomID)
		return err
	}
	cfg.OnResultTx = func(ctx context.Context, tx pgx.Tx, results []fusillade.Result) error {
		for _, r := range results {
			if _, err := tx.Exec(ctx, `INSERT INTO mine.seen VALUES ($1)`, r.CustomID); err != nil {
				return err
			}
		}
		return nil
	}
	f, err := fusillade.New(ctx, cfg)
	if err != nil {
		return err
	}
	if what == "work" {
		err = f.Run(ctx)
	} else {
		err = submit(ctx, f, db, args[3])
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// submit makes a batch in a transaction, and dies before, at or after its commit.
func submit(ctx context.Context, f *fusillade.Fusillade, db *pgxpool.Pool, instant string) error {
	tx, err := db.Begin(ctx)
	if err != nil {
		return err
	}
	id, err := f.SubmitTx(ctx, tx, []fusillade.Request{{
		CustomID: instant, Body: map[string]any{"model": "m", "messages": []any{}},
	}}, fusillade.SubmitOptions{})
	if err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, `INSERT INTO mine.orders VALUES ($1)`, id.String()); err != nil {
		return err
	}
	switch instant {
	case "before":
		die()
	case "at":
		time.AfterFunc(rand.N(400*time.Microsecond), die)
	}
	if err := tx.Commit(ctx); err != nil {
		return err
	}
	die()
	return nil
}

func die() { _ = syscall.Kill(os.Getpid(), syscall.SIGKILL) }
