// Nightly runs a file of requests with everything embedded, once a day: begun again
// on the same day, it goes on with the same batch.
//
//	go run ./examples/embed/nightly DATADIR UPSTREAM examples/requests.jsonl
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"time"

	"fusillade"
)

func main() {
	if len(os.Args) != 4 {
		log.Fatal("usage: nightly DATADIR UPSTREAM FILE")
	}
	if err := run(context.Background(), os.Args[1], os.Args[2], os.Args[3]); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, dataDir, upstream, file string) (err error) {
	cfg := fusillade.DefaultConfig()
	cfg.DataDir, cfg.Upstream, cfg.UpstreamKey = dataDir, upstream, os.Getenv("API_KEY")
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
	input, err := os.Open(file)
	if err != nil {
		return err
	}
	defer input.Close()
	id, err := f.SubmitFile(ctx, input, fusillade.SubmitOptions{Name: file, IdempotencyKey: time.Now().Format(time.DateOnly)})
	if err != nil {
		return err
	}
	b, err := f.Wait(ctx, id)
	if err != nil {
		return err
	}
	for r, err := range f.Results(ctx, id) {
		if err != nil {
			return err
		}
		if r.Error != nil {
			fmt.Printf("%s failed: %v\n", r.CustomID, r.Error)
		}
	}
	fmt.Printf("%s: %d of %d completed\n", b.Status, b.Completed, b.Total)
	return nil
}
