package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"fusillade/internal/batch"
	"fusillade/internal/operate"
	"fusillade/internal/postgres"
)

// change connects to the cluster and runs f on a batch.
func change(ctx context.Context, t *terminal, text string, f func(*operate.Operator, batch.ID) error) error {
	id, err := batch.ParseID(text)
	if err != nil {
		return usage(err)
	}
	r, err := connectCluster(ctx)
	if err != nil {
		return err
	}
	defer r.Close()
	o, err := operate.New(operate.Config{Store: r.Store, Conn: r.Conn, Log: slog.New(slog.NewTextHandler(t.err, nil))})
	if err != nil {
		return err
	}
	return f(o, id)
}

type batchesCancelCmd struct {
	ID    string  `arg:"" placeholder:"BATCH"`
	Lines []int32 `name:"line" placeholder:"N" help:"Cancel only the request of this line of the input file; can be repeated."`
}

func (c *batchesCancelCmd) Run(ctx context.Context, t *terminal) error {
	return change(ctx, t, c.ID, func(o *operate.Operator, id batch.ID) error {
		if len(c.Lines) > 0 {
			done, err := o.CancelRequests(ctx, id, c.Lines)
			return sayLines(t, "canceled", "had ended before", done, err)
		}
		b, err := o.Cancel(ctx, id)
		if err != nil {
			return err
		}
		return printBatch(t, b)
	})
}

type batchesRetryCmd struct {
	ID       string  `arg:"" placeholder:"BATCH"`
	Failed   bool    `help:"Retry those that failed. This is what happens without any of these flags."`
	Canceled bool    `help:"Retry those that were canceled."`
	Expired  bool    `help:"Retry those that expired."`
	Lines    []int32 `name:"line" placeholder:"N" help:"Retry only the request of this line of the input file; can be repeated."`
}

func (c *batchesRetryCmd) Run(ctx context.Context, t *terminal) error {
	states := c.states()
	if len(c.Lines) > 0 && len(states) > 0 {
		return usage(errors.New("--line and --failed, --canceled or --expired exclude each other"))
	}
	return change(ctx, t, c.ID, func(o *operate.Operator, id batch.ID) error {
		if len(c.Lines) > 0 {
			done, err := o.RetryLines(ctx, id, c.Lines)
			return sayLines(t, "pending again", "have completed or have not ended", done, err)
		}
		if len(states) == 0 {
			states = []batch.State{batch.Failed}
		}
		n, err := o.Retry(ctx, id, states...)
		t.say("%d requests are pending again", n)
		return err
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

func (c *batchesDeleteCmd) Run(ctx context.Context, t *terminal) error {
	return change(ctx, t, c.ID, func(o *operate.Operator, id batch.ID) error {
		if err := o.DeleteBatch(ctx, id); err != nil {
			return err
		}
		t.say("deleted; its rows are removed by the next purge")
		return nil
	})
}

// sayLines says what became of single requests. That some could not be changed
// is an error.
func sayLines(t *terminal, changed, unchanged string, done postgres.Lines, err error) error {
	if err != nil {
		return err
	}
	if n := len(done.Changed); n > 0 {
		t.say("%s: %s", changed, list(done.Changed))
	}
	if len(done.Unchanged) > 0 {
		return &exitError{exitFailed, fmt.Errorf("unchanged, because they %s: %s", unchanged, list(done.Unchanged))}
	}
	return nil
}

func list(lines []int32) string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = fmt.Sprint(line)
	}
	return "line " + strings.Join(out, ", ")
}
