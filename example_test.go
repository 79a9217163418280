package fusillade_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"fusillade"
)

// A nightly job: everything is embedded, in a directory.
func Example() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	cfg := fusillade.DefaultConfig()
	cfg.DataDir, cfg.Upstream, cfg.UpstreamKey = "/var/lib/nightly", "https://api.example.com", os.Getenv("API_KEY")
	f, err := fusillade.New(ctx, cfg)
	if err != nil {
		log.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }()
	input, err := os.Open("requests.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer input.Close()
	// The date as key: a job that is begun again goes on with the same batch.
	id, err := f.SubmitFile(ctx, input, fusillade.SubmitOptions{IdempotencyKey: "2026-01-31"})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := f.Wait(ctx, id); err != nil {
		log.Fatal(err)
	}
	for result, err := range f.Results(ctx, id) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(result.CustomID, result.StatusCode, result.Error)
	}
	stop()
	if err := <-ended; err != nil {
		log.Fatal(err)
	}
	if err := f.Close(); err != nil {
		log.Fatal(err)
	}
}

// A batch that is made in a transaction beside the program's own tables.
func ExampleFusillade_SubmitTx() {
	ctx := context.Background()
	var f *fusillade.Fusillade // as of New
	var db *pgx.Conn           // to the same database
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		id, err := f.SubmitTx(ctx, tx, []fusillade.Request{{
			CustomID: "order-17",
			Body:     map[string]any{"model": "gpt-4o-mini", "messages": []any{map[string]any{"role": "user", "content": "Thank them."}}},
		}}, fusillade.SubmitOptions{})
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE orders SET batch = $1 WHERE id = 17`, id.String())
		return err
	})
	if err != nil {
		log.Fatal(err)
	}
}

// A consumer with a rule of its own, on the program's own Postgres and NATS.
func ExampleConfig() {
	conn, err := nats.Connect("nats://127.0.0.1:4222")
	if err != nil {
		log.Fatal(err)
	}
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.NATS, cfg.Upstream = "postgres://fusillade@127.0.0.1/fusillade", conn, "http://127.0.0.1:8000"
	cfg.Role = fusillade.RoleConsumer
	cfg.ShouldRetry = func(r fusillade.Response) bool {
		return r.StatusCode >= 500 || strings.Contains(string(r.Body), "please try again")
	}
	f, err := fusillade.New(context.Background(), cfg)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(f.Run(context.Background()))
}
