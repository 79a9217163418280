// Orders has a letter of thanks written for each order: the request is made in the
// transaction that stores the order, and the letter is stored in the transaction that
// writes the result. Whatever crashes in between, each order has one letter.
//
//	go run ./examples/embed/orders DATABASE NATS UPSTREAM CUSTOMER…
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"

	"fusillade"
)

const schema = `CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, customer text NOT NULL, letter jsonb)`

func main() {
	if len(os.Args) < 5 {
		log.Fatal("usage: orders DATABASE NATS UPSTREAM CUSTOMER…")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3], os.Args[4:]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, database, broker, upstream string, customers []string) (err error) {
	pc, err := pgxpool.ParseConfig(database)
	if err != nil {
		return err
	}
	pc.MaxConns = 16
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return err
	}
	defer pool.Close()
	if _, err := pool.Exec(ctx, schema); err != nil {
		return err
	}
	conn, err := nats.Connect(broker)
	if err != nil {
		return err
	}
	defer conn.Close()
	cfg := fusillade.DefaultConfig()
	cfg.Pool, cfg.NATS, cfg.Upstream, cfg.OnResultTx = pool, conn, upstream, keepLetters
	f, err := fusillade.New(ctx, cfg)
	if err != nil {
		return err
	}
	defer f.Close()
	working, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(working) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()
	for _, customer := range customers {
		err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error { return order(ctx, f, tx, customer) })
		if err != nil {
			return err
		}
	}
	return report(ctx, pool)
}

// order stores an order and asks for its letter: both, or neither.
func order(ctx context.Context, f *fusillade.Fusillade, tx pgx.Tx, customer string) error {
	var id int64
	if err := tx.QueryRow(ctx, `INSERT INTO orders (customer) VALUES ($1) RETURNING id`, customer).Scan(&id); err != nil {
		return err
	}
	_, err := f.SubmitTx(ctx, tx, []fusillade.Request{{
		CustomID: strconv.FormatInt(id, 10),
		Body: map[string]any{"model": "gpt-4o-mini", "messages": []any{
			map[string]any{"role": "user", "content": "Thank " + customer + " for an order."},
		}},
	}}, fusillade.SubmitOptions{})
	return err
}

// keepLetters is a part of the transaction that writes the results.
func keepLetters(ctx context.Context, tx pgx.Tx, results []fusillade.Result) error {
	for _, r := range results {
		if r.Error != nil {
			continue // the order goes without
		}
		id, err := strconv.ParseInt(r.CustomID, 10, 64)
		if err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE orders SET letter = $2 WHERE id = $1`, id, r.Body); err != nil {
			return err
		}
	}
	return nil
}

// report waits until each order has its letter.
func report(ctx context.Context, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		var orders, letters int
		if err := pool.QueryRow(ctx, `SELECT count(*), count(letter) FROM orders`).Scan(&orders, &letters); err != nil {
			return err
		}
		if orders == letters {
			fmt.Printf("%d orders, %d letters\n", orders, letters)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.New("some orders have no letter after a minute")
		}
	}
}
