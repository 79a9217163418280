package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"

	"fusillade/client"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/config"
)

type batchesCmd struct {
	Create  batchesCreateCmd  `cmd:"" help:"Upload a file of requests, create a batch and print its id."`
	Ls      batchesLsCmd      `cmd:"" help:"List the batches."`
	Get     batchesGetCmd     `cmd:"" help:"Show a batch's status and counts."`
	Watch   batchesWatchCmd   `cmd:"" help:"Show the progress of a batch until it has ended."`
	Errors  batchesErrorsCmd  `cmd:"" help:"Group the failures of a batch, also of requests that are called again."`
	Results batchesResultsCmd `cmd:"" help:"Write the results that a batch has so far."`
	Set     batchesSetCmd     `cmd:"" help:"Change the priority or the budget of a batch."`
	Cancel  batchesCancelCmd  `cmd:"" help:"Cancel a batch, or single requests of it; calls in flight are aborted."`
	Rerun   batchesRerunCmd   `cmd:"" help:"Run again the requests of a batch that failed, were canceled or expired."`
	Retry   batchesRerunCmd   `cmd:"" hidden:"" help:"The former name of rerun."`
	Delete  batchesDeleteCmd  `cmd:"" help:"Delete a batch and its results; it is cancelled first if it has not ended."`
	remote
}

func rawBatch(b client.Batch) json.RawMessage { return b.JSON }

// batchID is the id of a batch as a user writes it.
func batchID(text string) (batch.ID, error) {
	id, err := batch.ParseID(text)
	if err != nil {
		return id, cli.Usage(err)
	}
	return id, nil
}

type batchesCreateCmd struct {
	Input            string            `arg:"" optional:"" placeholder:"FILE|-" help:"Requests, one JSON object per line; - reads standard input."`
	InputFlag        string            `name:"input" short:"i" placeholder:"FILE|-" help:"The same, as a flag."`
	FileID           string            `name:"file-id" placeholder:"FILE_ID" help:"A file that was uploaded before, instead."`
	Endpoint         string            `placeholder:"PATH" help:"Such as /v1/chat/completions. Default: what the first request of the file says."`
	CompletionWindow string            `default:"24h" aliases:"window" placeholder:"TIME" help:"Time to finish in, such as 90m, 24h or 7d (default ${default})."`
	Metadata         map[string]string `placeholder:"KEY=VALUE" help:"To be kept with the batch; can be repeated."`
	Priority         int               `placeholder:"N" help:"From -100 to 100: of your batches those with the highest priority come first (default 0)."`
	Watch            bool              `help:"Show its progress until it has ended."`
	budgetFlags
	batchKeyFlag
	jsonFlag
}

func (c *batchesCreateCmd) check() (input string, err error) {
	given := 0
	for _, source := range []string{c.Input, c.InputFlag, c.FileID} {
		if source != "" {
			given++
		}
	}
	if given != 1 {
		return "", errors.New("give one of FILE, --input and --file-id")
	}
	if _, err := config.ParseWindow(c.CompletionWindow); err != nil {
		return "", fmt.Errorf("--completion-window: %w", err)
	}
	if c.Priority < -batch.MaxPriority || c.Priority > batch.MaxPriority {
		return "", fmt.Errorf("--priority %w", batch.ErrPriority)
	}
	if c.FileID != "" {
		_, err = batch.ParseFileID(c.FileID)
	}
	return cmp.Or(c.Input, c.InputFlag), err
}

// Run uploads the file and creates the batch. A crash between the two leaves a
// file without a batch, which the server removes when it expires.
func (c *batchesCreateCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	path, err := c.check()
	if err != nil {
		return cli.Usage(err)
	}
	budget, err := c.budget()
	if err != nil {
		return err
	}
	key, err := c.key()
	if err != nil {
		return err
	}
	var in *cli.Input
	if path != "" {
		if in, err = cli.OpenInput(path); err != nil {
			return cli.Usage(err)
		}
		defer in.Close()
	}
	return batches.with(func(api *client.Client) error {
		if in != nil {
			f, err := upload(ctx, api, in, "", 0)
			if err != nil {
				return err
			}
			c.FileID = f.ID
			if !c.JSON {
				noteSurvey(t, f)
			}
		}
		b, err := c.create(ctx, api.WithUpstreamKey(key), budget)
		if err != nil && in != nil {
			t.Notef("uploaded as %s", c.FileID)
		}
		if err != nil {
			return err
		}
		if c.JSON && !c.Watch {
			return t.PrintRaw(b.JSON)
		}
		if !c.JSON {
			if _, err := fmt.Fprintln(t.Out, b.ID); err != nil {
				return err
			}
		}
		if !c.Watch {
			return nil
		}
		return watchBatch(ctx, t, api, b.ID, c.JSON)
	})
}

func (c *batchesCreateCmd) create(ctx context.Context, api *client.Client, budget batch.Budget) (b client.Batch, err error) {
	if c.Endpoint == "" {
		if c.Endpoint, err = api.Endpoint(ctx, c.FileID); err != nil {
			return b, err
		}
	}
	return api.CreateBatch(ctx, client.NewBatch{
		InputFileID: c.FileID, Endpoint: c.Endpoint, CompletionWindow: c.CompletionWindow, Metadata: c.Metadata, Priority: c.Priority, Budget: asked(budget),
	})
}

type batchesLsCmd struct {
	Status []string `enum:"in_progress,cancelling,completed,failed,expired,cancelled" placeholder:"STATUS" help:"Only batches with this status: in_progress, cancelling, completed, failed (every request failed; shown as completed, as OpenAI has it), expired or cancelled. Several with commas between, or the flag repeated."`
	listFlags
}

func (c *batchesLsCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	if err := c.check(); err != nil {
		return err
	}
	return batches.with(func(api *client.Client) error {
		return cli.PrintList(t, c.format(), api.Batches(ctx, c.Limit, c.Status...), rawBatch, batchColumns...)
	})
}

var batchColumns = []cli.Column[client.Batch]{
	{Name: "ID", Cell: func(b client.Batch) string { return b.ID }},
	{Name: "STATUS", Cell: func(b client.Batch) string { return b.Status }},
	{Name: "TOTAL", Cell: func(b client.Batch) string { return strconv.FormatInt(b.Counts.Total, 10) }},
	{Name: "DONE", Cell: donePercent},
	{Name: "COMPLETED", Wide: true, Cell: func(b client.Batch) string { return strconv.FormatInt(b.Counts.Completed, 10) }},
	{Name: "FAILED", Cell: func(b client.Batch) string { return strconv.FormatInt(b.Counts.Failed, 10) }},
	{Name: "AGE", Cell: func(b client.Batch) string { return cli.Age(b.CreatedAt) }},
	{Name: "CREATED", Wide: true, Cell: func(b client.Batch) string { return cli.Moment(b.CreatedAt) }},
	{Name: "EXPIRES", Wide: true, Cell: func(b client.Batch) string { return cli.Moment(b.ExpiresAt) }},
	{Name: "ENDPOINT", Wide: true, Cell: func(b client.Batch) string { return b.Endpoint }},
}

// donePercent never rounds up: 100% is all.
func donePercent(b client.Batch) string {
	if b.Counts.Total == 0 {
		return "-"
	}
	return fmt.Sprintf("%d%%", (b.Counts.Completed+b.Counts.Failed)*100/b.Counts.Total)
}

type batchesGetCmd struct {
	ID string `arg:"" name:"batch" placeholder:"BATCH" help:"Its id, as batches ls lists it."`
	jsonFlag
}

func (c *batchesGetCmd) Run(ctx context.Context, t *cli.Terminal, batches *batchesCmd) error {
	return batches.change(t, c.ID, c.JSON, func(api *client.Client, id string) (client.Batch, error) { return api.Batch(ctx, id) })
}

// change does something to a batch and prints it.
func (c *batchesCmd) change(t *cli.Terminal, text string, asJSON bool, do func(*client.Client, string) (client.Batch, error)) error {
	id, err := batchID(text)
	if err != nil {
		return err
	}
	return c.with(func(api *client.Client) error {
		b, err := do(api, id.String())
		if err != nil {
			return err
		}
		return printBatch(t, b, asJSON)
	})
}

func printBatch(t *cli.Terminal, b client.Batch, asJSON bool) error {
	if asJSON {
		return t.PrintRaw(b.JSON)
	}
	members := []cli.Member{
		{Name: "id", Value: b.ID},
		{Name: "status", Value: b.Status},
		{Name: "requests", Value: fmt.Sprintf("%d of %d completed, %d failed", b.Counts.Completed, b.Counts.Total, b.Counts.Failed)},
		{Name: "waits", Value: cli.Plain(b.Waiting.String())},
		{Name: "budget", Value: cli.Plain(b.Budget.String())},
		{Name: "endpoint", Value: b.Endpoint},
		{Name: "created", Value: cli.MomentAndAge(b.CreatedAt)},
		{Name: "window", Value: b.CompletionWindow},
		{Name: "expires", Value: cli.MomentAndAge(b.ExpiresAt)},
		{Name: "ended", Value: cli.MomentAndAge(max(b.CompletedAt, b.FailedAt, b.ExpiredAt, b.CancelledAt))},
		{Name: "input", Value: b.InputFileID},
		{Name: "output", Value: b.OutputFileID},
		{Name: "errors", Value: b.ErrorFileID},
	}
	for _, key := range slices.Sorted(maps.Keys(b.Metadata)) {
		members = append(members, cli.Member{Name: cli.Plain(key), Value: b.Metadata[key]})
	}
	return t.PrintMembers(members...)
}

// batchKeyFlag names the API key for the model endpoint that a batch has of
// its own.
type batchKeyFlag struct {
	APIKeyEnv string `name:"api-key-env" placeholder:"NAME" help:"Environment variable that holds an API key for the model endpoint: the batch's requests are called with it instead of the server's."`
}

// key reads it; empty: none is given.
func (f batchKeyFlag) key() (string, error) {
	if f.APIKeyEnv == "" {
		return "", nil
	}
	return checkKey(os.Getenv(f.APIKeyEnv), "the environment variable "+f.APIKeyEnv)
}
