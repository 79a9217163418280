package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
)

// anyOwnerFlag is for operators.
type anyOwnerFlag struct {
	AnyOwner bool `help:"Also a batch of another owner: for operators."`
}

// as is the client that the command is to use.
func (f anyOwnerFlag) as(api *client.Client) *client.Client {
	if f.AnyOwner {
		return api.AsOperator()
	}
	return api
}

type batchesCancelCmd struct {
	ID    string  `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	Lines []int32 `name:"line" placeholder:"N" help:"Cancel only the request of this line of the input file; can be repeated."`
	anyOwnerFlag
	jsonFlag
}

func (c *batchesCancelCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	if len(c.Lines) > 0 {
		return batches.changeLines(t, c.ID, c.JSON, "canceled", "had ended before", func(api *client.Client, id string) (client.ChangedLines, error) {
			return c.as(api).CancelLines(ctx, id, c.Lines)
		})
	}
	return batches.change(t, c.ID, c.JSON, func(api *client.Client, id string) (client.Batch, error) { return c.as(api).CancelBatch(ctx, id) })
}

type batchesSetCmd struct {
	ID       string `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	Priority *int   `placeholder:"N" help:"From -100 to 100: of your batches those with the highest priority come first. What is claimed already keeps its place."`
	NoBudget bool   `help:"Take its budget away."`
	budgetFlags
	jsonFlag
}

func (c *batchesSetCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	budget, err := c.budget()
	switch {
	case err != nil:
		return err
	case c.Priority != nil && (*c.Priority < -batch.MaxPriority || *c.Priority > batch.MaxPriority):
		return cli.Usage(fmt.Errorf("--priority %w", batch.ErrPriority))
	case c.NoBudget && !budget.IsZero():
		return cli.Usage(errors.New("--no-budget excludes --budget-tokens and --budget-cost"))
	case c.Priority == nil && !c.NoBudget && budget.IsZero():
		return cli.Usage(errors.New("give one of --priority, --budget-tokens, --budget-cost and --no-budget"))
	}
	change := client.BatchChange{Priority: c.Priority, Budget: asked(budget)}
	if c.NoBudget {
		change.Budget = &client.Budget{}
	}
	return batches.change(t, c.ID, c.JSON, func(api *client.Client, id string) (client.Batch, error) {
		return api.ChangeBatch(ctx, id, change)
	})
}

type batchesRerunCmd struct {
	ID       string  `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	Failed   bool    `help:"Rerun those that failed. This is the default."`
	Canceled bool    `help:"Rerun those that were canceled."`
	Expired  bool    `help:"Rerun those that expired."`
	Lines    []int32 `name:"line" placeholder:"N" help:"Rerun only the request of this line of the input file; can be repeated."`
	batchKeyFlag
	anyOwnerFlag
	jsonFlag
}

func (c *batchesRerunCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	key, err := c.key()
	if err != nil {
		return err
	}
	states := c.states()
	if len(c.Lines) > 0 {
		if len(states) > 0 {
			return cli.Usage(errors.New("--line and --failed, --canceled or --expired exclude each other"))
		}
		return batches.changeLines(t, c.ID, c.JSON, "pending again", "have completed or have not ended", func(api *client.Client, id string) (client.ChangedLines, error) {
			return c.as(api).WithUpstreamKey(key).RerunLines(ctx, id, c.Lines)
		})
	}
	return batches.change(t, c.ID, c.JSON, func(api *client.Client, id string) (client.Batch, error) {
		return c.as(api).WithUpstreamKey(key).RerunBatch(ctx, id, states...)
	})
}

func (c *batchesRerunCmd) states() (states []client.State) {
	for _, flag := range []struct {
		set   bool
		state client.State
	}{{c.Failed, client.Failed}, {c.Canceled, client.Canceled}, {c.Expired, client.Expired}} {
		if flag.set {
			states = append(states, flag.state)
		}
	}
	return states
}

type batchesDeleteCmd struct {
	ID string `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	anyOwnerFlag
}

func (c *batchesDeleteCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	id, err := batchID(c.ID)
	if err != nil {
		return err
	}
	return batches.with(func(api *client.Client) error {
		if err := c.as(api).DeleteBatch(ctx, id.String()); err != nil {
			return err
		}
		t.Notef("deleted %s", id)
		return nil
	})
}

// changeLines does something to single requests. That some could not be
// changed is an error.
func (c *batchesCmd) changeLines(t *cli.Terminal, text string, asJSON bool, changed, unchanged string, do func(*client.Client, string) (client.ChangedLines, error)) error {
	id, err := batchID(text)
	if err != nil {
		return err
	}
	return c.with(func(api *client.Client) error {
		done, err := do(api, id.String())
		if err != nil {
			return err
		}
		if asJSON {
			if err := t.PrintRaw(done.JSON); err != nil {
				return err
			}
		}
		if len(done.Changed) > 0 {
			t.Notef("%s: %s", changed, lineList(done.Changed))
		}
		if len(done.Unchanged) > 0 {
			return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("unchanged, because they %s: %s", unchanged, lineList(done.Unchanged))}
		}
		return nil
	})
}

func lineList(lines []int32) string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = fmt.Sprint(line)
	}
	return "line " + strings.Join(out, ", ")
}
