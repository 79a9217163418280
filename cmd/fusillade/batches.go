package main

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/config"
	"fusillade/internal/pipeline"
	"fusillade/internal/postgres"
)

type batchesCmd struct {
	Create  batchesCreateCmd  `cmd:"" help:"Store a file of requests and begin a batch; prints the batch's id."`
	Get     batchesGetCmd     `cmd:"" help:"Print a batch's status and counts as JSON."`
	Results batchesResultsCmd `cmd:"" help:"Write the results that a batch has so far."`
	Cancel  batchesCancelCmd  `cmd:"" help:"End a batch, or single requests of it, as canceled; calls in flight are aborted."`
	Retry   batchesRetryCmd   `cmd:"" help:"Run requests of a batch that failed, or were canceled or expired, again."`
	Delete  batchesDeleteCmd  `cmd:"" help:"Delete a batch and its results; it is cancelled first if it has not ended."`
}

type batchesCreateCmd struct {
	Input            string `arg:"" placeholder:"FILE|-" help:"Requests, one JSON object per line; - reads standard input."`
	CompletionWindow string `default:"24h" placeholder:"TIME" help:"Time to finish in (default ${default})."`
}

// Run stores the file and creates the batch. A crash between the two leaves a
// file without a batch, which costs space and nothing else.
func (c *batchesCreateCmd) Run(ctx context.Context, t *terminal) error {
	window, err := config.ParseWindow(c.CompletionWindow)
	if err != nil {
		return usage(fmt.Errorf("--completion-window: %w", err))
	}
	in, err := openInput(c.Input)
	if err != nil {
		return usage(err)
	}
	defer in.Close()
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	j := &job{store: r.Store, input: in, window: window, windowText: c.CompletionWindow, terminal: t}
	file, _, err := j.load(ctx)
	if err != nil {
		return usage(err)
	}
	id, err := j.create(ctx, file)
	if err != nil {
		return err
	}
	hintWork(r.Conn)
	_, err = fmt.Fprintln(t.out, id)
	return err
}

type batchesGetCmd struct {
	ID string `arg:"" placeholder:"BATCH"`
}

func (c *batchesGetCmd) Run(ctx context.Context, t *terminal) error {
	r, b, err := findBatch(ctx, c.ID)
	if err != nil {
		return err
	}
	defer r.Close()
	return printBatch(t, b)
}

func findBatch(ctx context.Context, text string) (pipeline.Resources, postgres.Batch, error) {
	id, err := batch.ParseID(text)
	if err != nil {
		return pipeline.Resources{}, postgres.Batch{}, usage(err)
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return r, postgres.Batch{}, err
	}
	b, err := r.Store.GetBatch(ctx, id)
	if err != nil {
		r.Close()
		return r, postgres.Batch{}, err
	}
	return r, b, nil
}

func printBatch(t *terminal, b postgres.Batch) error {
	out := map[string]any{
		"id": b.ID.String(), "status": b.Status, "endpoint": b.Endpoint, "completion_window": b.CompletionWindow,
		"created_at": b.CreatedAt.UTC().Format(time.RFC3339Nano), "expires_at": b.ExpiresAt.UTC().Format(time.RFC3339Nano),
		"request_counts": map[string]int64{
			"total": b.Counts.Total, "pending": b.Counts.Pending, "in_progress": b.Counts.InProgress,
			"completed": b.Counts.Completed, "failed": b.Counts.Failed, "canceled": b.Counts.Canceled, "expired": b.Counts.Expired,
		},
	}
	if !b.CancellingAt.IsZero() {
		out["cancelling_at"] = b.CancellingAt.UTC().Format(time.RFC3339Nano)
	}
	if !b.FinishedAt.IsZero() {
		out["finished_at"] = b.FinishedAt.UTC().Format(time.RFC3339Nano)
	}
	return t.printJSON(out)
}

type batchesResultsCmd struct {
	ID     string `arg:"" placeholder:"BATCH"`
	Output string `short:"o" required:"" placeholder:"FILE" help:"Where to write the results."`
	Errors string `placeholder:"FILE" help:"Where to write the requests that failed. Default: the output's name with .errors before its extension."`
}

func (c *batchesResultsCmd) Run(ctx context.Context, t *terminal) error {
	o, err := newOutputs(c.Output, c.Errors)
	if err != nil {
		return usage(err)
	}
	r, b, err := findBatch(ctx, c.ID)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := o.write(ctx, r.Store, b.ID); err != nil {
		return err
	}
	return o.summary(t, b)
}
