package main

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
)

type batchesWatchCmd struct {
	ID string `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	jsonFlag
}

// Run follows the batch. Exit codes: 0, every request completed; 1, the batch
// ended otherwise; 130, stopped by a signal, which leaves the batch as it is.
func (c *batchesWatchCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	return batches.with(func(api *client.Client) error { return watchBatch(ctx, t, api, id.String(), c.JSON) })
}

func watchBatch(ctx context.Context, t *cli.Terminal, api *client.Client, id string, asJSON bool) error {
	p := cli.NewProgress(t)
	said := ""
	b, err := api.Watch(ctx, id, func(b client.Batch) {
		// Said again when it is another cause, not when the numbers in it move.
		if why := whyItWaits(b.Waiting); why != said {
			if said = why; why != "" {
				p.Notef("%s", cli.Plain(b.Waiting.String()))
			}
		}
		p.Update(b.Counts.Total, b.Counts.Completed+b.Counts.Failed, fmt.Sprintf("failed %d", b.Counts.Failed))
	}, func(err error) { p.Notef("the server is away, trying again: %v", err) })
	p.End()
	if ctx.Err() != nil && !b.Ended() {
		t.Notef("the batch goes on; watch it again with: fusillade batches watch %s", id)
		return cli.ErrInterrupted
	}
	if err != nil {
		return err
	}
	if asJSON {
		if err := t.PrintRaw(b.JSON); err != nil {
			return err
		}
	}
	t.Notef("%s: %d of %d requests completed", b.Status, b.Counts.Completed, b.Counts.Total)
	return outcome(b)
}

// whyItWaits is what a note about a batch that is held up depends on.
func whyItWaits(w *client.Waiting) string {
	if w == nil {
		return ""
	}
	return w.Code + " " + w.Message
}

// outcome is an error for a batch that did not end with all requests completed.
func outcome(b client.Batch) error {
	if note := spentNote(b); note != "" && b.Ended() {
		return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("%d requests did not complete: %s", b.Counts.Total-b.Counts.Completed, note)}
	}
	if b.Ended() && b.Counts.Completed < b.Counts.Total {
		return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("%s did not complete; why: fusillade batches errors %s", cli.Count(b.Counts.Total-b.Counts.Completed, "request"), b.ID)}
	}
	return nil
}

type batchesResultsCmd struct {
	ID     string `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	Output string `short:"o" required:"" placeholder:"FILE" help:"Where to write the results."`
	Errors string `placeholder:"FILE" help:"Where to write the requests that failed. Default: the output's name with .errors before its extension."`
}

// Run reads both files of the batch. They appear when they are whole.
func (c *batchesResultsCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	o, err := cli.NewOutputs(t, c.Output, c.Errors)
	if err != nil {
		return cli.Usage(err)
	}
	return batches.with(func(api *client.Client) error {
		b, err := api.Batch(ctx, id.String())
		if err != nil {
			return err
		}
		var completed, others int64
		err = o.Fill(func(results, failures io.Writer) (bool, error) {
			if completed, err = resultLines(ctx, api, batch.ResultFile{Batch: id}, b.Ended() && b.OutputFileID == "", results); err != nil {
				return false, err
			}
			others, err = resultLines(ctx, api, batch.ResultFile{Batch: id, Errors: true}, b.Ended() && b.ErrorFileID == "", failures)
			return others > 0, err
		})
		if err != nil {
			return err
		}
		t.Notef("%d of %d requests completed: %s", completed, b.Counts.Total, o.Results)
		if !b.Ended() {
			t.Notef("the batch goes on, with more results to come")
		}
		if others > 0 {
			return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("%s did not complete: see %s", cli.Count(others, "request"), o.Failures)}
		}
		return nil
	})
}

// resultLines writes an output or error file, unless there is none.
func resultLines(ctx context.Context, api *client.Client, f batch.ResultFile, none bool, w io.Writer) (int64, error) {
	if none {
		return 0, nil
	}
	at, err := api.Content(ctx, f.String(), 0, w)
	// Without a line at the end of its batch, meanwhile, it is not there.
	if at.Next == 0 && client.HasStatus(err, http.StatusNotFound) {
		return 0, nil
	}
	return at.Next, err
}
