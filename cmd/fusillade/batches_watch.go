package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"fusillade/internal/batch"
	"fusillade/internal/client"
)

type batchesWatchCmd struct {
	ID string `arg:"" placeholder:"BATCH"`
	jsonFlag
}

// Run follows the batch. Exit codes: 0, every request completed; 1, the batch
// ended otherwise; 130, stopped by a signal, which leaves the batch as it is.
func (c *batchesWatchCmd) Run(ctx context.Context, t *terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	return batches.with(func(api *client.Client) error { return watchBatch(ctx, t, api, id.String(), c.JSON) })
}

func watchBatch(ctx context.Context, t *terminal, api *client.Client, id string, asJSON bool) error {
	p := newProgress(t)
	b, err := api.Watch(ctx, id, func(b client.Batch) {
		p.update(b.Counts.Total, b.Counts.Completed+b.Counts.Failed, fmt.Sprintf("failed %d", b.Counts.Failed))
	}, func(err error) { p.note("the server is away, trying again: %v", err) })
	p.end()
	if ctx.Err() != nil && !b.Ended() {
		t.say("the batch goes on; watch it again with: fusillade batches watch %s", id)
		return errInterrupted
	}
	if err != nil {
		return err
	}
	if asJSON {
		if err := t.printRaw(b.JSON); err != nil {
			return err
		}
	}
	t.say("%s: %d of %d requests completed", b.Status, b.Counts.Completed, b.Counts.Total)
	return outcome(b)
}

// outcome is an error for a batch that did not end with all requests completed.
func outcome(b client.Batch) error {
	if b.Ended() && b.Counts.Completed < b.Counts.Total {
		return &exitError{exitFailed, fmt.Errorf("%d requests did not complete; why: fusillade batches results %s -o FILE", b.Counts.Total-b.Counts.Completed, b.ID)}
	}
	return nil
}

type batchesResultsCmd struct {
	ID     string `arg:"" placeholder:"BATCH"`
	Output string `short:"o" required:"" placeholder:"FILE" help:"Where to write the results."`
	Errors string `placeholder:"FILE" help:"Where to write the requests that failed. Default: the output's name with .errors before its extension."`
}

// Run reads both files of the batch. They appear when they are whole.
func (c *batchesResultsCmd) Run(ctx context.Context, t *terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	o, err := newOutputs(c.Output, c.Errors)
	if err != nil {
		return usage(err)
	}
	return batches.with(func(api *client.Client) error {
		b, err := api.Batch(ctx, id.String())
		if err != nil {
			return err
		}
		var completed, others int64
		err = o.fill(func(results, failures *wholeFile) (bool, error) {
			if completed, err = resultLines(ctx, api, batch.ResultFile{Batch: id}, b.Ended() && b.OutputFileID == "", results); err != nil {
				return false, err
			}
			others, err = resultLines(ctx, api, batch.ResultFile{Batch: id, Errors: true}, b.Ended() && b.ErrorFileID == "", failures)
			return others > 0, err
		})
		if err != nil {
			return err
		}
		t.say("%d of %d requests completed: %s", completed, b.Counts.Total, o.results)
		if !b.Ended() {
			t.say("the batch goes on, with more results to come")
		}
		if others > 0 {
			return &exitError{exitFailed, fmt.Errorf("%d requests failed: see %s", others, o.errors)}
		}
		return nil
	})
}

// resultLines writes an output or error file, unless there is none.
func resultLines(ctx context.Context, api *client.Client, f batch.ResultFile, none bool, w *wholeFile) (int64, error) {
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

type batchesCancelCmd struct {
	ID    string  `arg:"" placeholder:"BATCH"`
	Lines []int32 `name:"line" placeholder:"N" help:"Cancel only the request of this line of the input file; can be repeated."`
	jsonFlag
}

func (c *batchesCancelCmd) Run(ctx context.Context, t *terminal, batches *batchesCmd) error {
	if len(c.Lines) > 0 {
		return batches.changeLines(t, c.ID, c.JSON, "canceled", "had ended before", func(api *client.Client, id string) (client.ChangedLines, error) {
			return api.CancelLines(ctx, id, c.Lines)
		})
	}
	return batches.change(t, c.ID, c.JSON, func(api *client.Client, id string) (client.Batch, error) { return api.CancelBatch(ctx, id) })
}

type batchesRetryCmd struct {
	ID       string  `arg:"" placeholder:"BATCH"`
	Failed   bool    `help:"Retry those that failed. This is what happens without any of these flags."`
	Canceled bool    `help:"Retry those that were canceled."`
	Expired  bool    `help:"Retry those that expired."`
	Lines    []int32 `name:"line" placeholder:"N" help:"Retry only the request of this line of the input file; can be repeated."`
	batchKeyFlag
	jsonFlag
}

func (c *batchesRetryCmd) Run(ctx context.Context, t *terminal, batches *batchesCmd) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	states := c.states()
	if len(c.Lines) > 0 {
		if len(states) > 0 {
			return usage(errors.New("--line and --failed, --canceled or --expired exclude each other"))
		}
		return batches.changeLines(t, c.ID, c.JSON, "pending again", "have completed or have not ended", func(api *client.Client, id string) (client.ChangedLines, error) {
			return api.WithUpstreamKey(key).RerunLines(ctx, id, c.Lines)
		})
	}
	return batches.change(t, c.ID, c.JSON, func(api *client.Client, id string) (client.Batch, error) {
		return api.WithUpstreamKey(key).RerunBatch(ctx, id, states...)
	})
}

func (c *batchesRetryCmd) states() (states []batch.State) {
	for _, flag := range []struct {
		set   bool
		state batch.State
	}{{c.Failed, batch.Failed}, {c.Canceled, batch.Canceled}, {c.Expired, batch.Expired}} {
		if flag.set {
			states = append(states, flag.state)
		}
	}
	return states
}

type batchesDeleteCmd struct {
	ID string `arg:"" placeholder:"BATCH"`
}

func (c *batchesDeleteCmd) Run(ctx context.Context, t *terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	return batches.with(func(api *client.Client) error {
		if err := api.DeleteBatch(ctx, id.String()); err != nil {
			return err
		}
		t.say("deleted %s", id)
		return nil
	})
}
