// Package client speaks to the HTTP API of a Fusillade server: files and batches as
// OpenAI has them, and what operators do. The command line is made of it.
//
//	c, err := client.New(client.Config{URL: "http://127.0.0.1:8080", Key: key})
//	…
//	file, err := c.Upload(ctx, client.NewFile{Name: "in.jsonl", Content: input, Size: -1})
//	b, err := c.CreateBatch(ctx, client.NewBatch{InputFileID: file.ID, Endpoint: "/v1/chat/completions", CompletionWindow: "24h"})
//	b, err = c.Watch(ctx, b.ID, func(client.Batch) {}, func(error) {})
//	_, err = c.Content(ctx, b.OutputFileID, 0, output)
//
// A call that returns an object is made once: what the server refuses is an
// *Error, and what did not come through may have been done or not. CreateBatch
// alone is repeated, under an idempotency key. Transfers are taken up again
// where they broke:
//
//	Content ── lines ──▶ writer      a break: again, from the first line not written
//	Watch ── events ──▶ function     a break: again; the first event is the batch as it is
//
// Objects keep the server's own JSON beside the members that are read, so that
// what this package does not know of is not lost.
package client
