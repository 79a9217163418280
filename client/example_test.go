package client_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"fusillade/client"
)

// A file is uploaded, run, watched to its end, and its results are written down.
func Example() {
	ctx := context.Background()
	c, err := client.New(client.Config{URL: "http://127.0.0.1:8080", Key: os.Getenv("FUSILLADE_API_KEY")})
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	input, err := os.Open("requests.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer input.Close()
	file, err := c.Upload(ctx, client.NewFile{Name: "requests.jsonl", Content: input, Size: -1})
	var refused *client.Error
	if errors.As(err, &refused) {
		log.Fatalf("status %d: %s", refused.Status, refused.Message)
	}
	if err != nil {
		log.Fatal(err)
	}
	b, err := c.CreateBatch(ctx, client.NewBatch{InputFileID: file.ID, Endpoint: "/v1/chat/completions", CompletionWindow: "24h"})
	if err != nil {
		log.Fatal(err)
	}
	b, err = c.Watch(ctx, b.ID, func(b client.Batch) {
		fmt.Printf("%d of %d\n", b.Counts.Completed+b.Counts.Failed, b.Counts.Total)
	}, func(broken error) { log.Print(broken) })
	if err != nil {
		log.Fatal(err)
	}
	if _, err := c.Content(ctx, b.OutputFileID, 0, os.Stdout); err != nil {
		log.Fatal(err)
	}
}
