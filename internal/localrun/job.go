package localrun

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
	"fusillade/internal/tracing"
)

// Job is a file to run. It is known by the content of its input and by the
// endpoint: the same again, with the same data directory, goes on with the batch
// that is there.
type Job struct {
	Input      *cli.Input
	Outputs    *cli.Outputs
	Window     time.Duration
	WindowText string // as the user wrote it

	Again          bool // begin anew, whatever there is
	RerunFailed    bool // run again what failed or expired
	ChangeEndpoint bool // go on with what was begun with another endpoint
	ResumeModels   bool // resume models of it that are paused

	// Budget is that of the job from now on; zero: the one that it has. A larger one
	// than before goes on with a job whose budget was spent.
	Budget batch.Budget

	// GiveUpAfter is how long the endpoint may refuse every call; 0: for ever.
	GiveUpAfter time.Duration
}

// owner has the files and batches of jobs: the one whose batches
// `fusillade serve` shows where no keys are asked for.
const owner = "local"

// finder finds or makes the batch of a job.
type finder struct {
	Job
	cfg      *Config
	store    *postgres.Store
	terminal *cli.Terminal
	tracer   *tracing.Tracer
}

// batch returns the batch of the job, which may have finished before.
func (f *finder) batch(ctx context.Context) (batch.ID, error) {
	// This process has the data directory to itself, so an upload in it has no
	// client any more.
	if _, err := f.store.RemoveAbandonedFiles(ctx, 0); err != nil {
		return batch.ID{}, err
	}
	digest, known, err := f.Input.Sum(ctx)
	if err != nil {
		return batch.ID{}, err
	}
	var file batch.FileID // zero: not stored yet
	if !known {
		if file, digest, err = f.load(ctx); err != nil {
			return batch.ID{}, err
		}
	}
	jobs, err := f.store.JobsOf(ctx, digest)
	if err != nil {
		return batch.ID{}, err
	}
	if len(jobs) > 0 {
		endpoint, err := f.cfg.endpointOf(ctx, f.store, jobs[0].File)
		if err != nil {
			return batch.ID{}, err
		}
		id, found, err := f.resume(ctx, jobs, endpoint)
		if err != nil {
			return batch.ID{}, err
		}
		if found {
			if !known { // it was stored again only to be compared
				_, err = f.store.DeleteFile(ctx, file)
			}
			return id, err
		}
	}
	if known {
		file, err = f.store.FindFile(ctx, digest, owner)
		if errors.Is(err, batch.ErrNotFound) {
			file, _, err = f.load(ctx)
		}
		if err != nil {
			return batch.ID{}, err
		}
	}
	id, err := f.create(ctx, file)
	if err == nil && f.Again {
		// After a crash before this the new job is gone on with, and the others
		// are named as unfinished.
		err = f.abandon(ctx, jobs, id)
	}
	return id, err
}

// resume returns the job to go on with; false: there is none, or the user wants
// a new one.
func (f *finder) resume(ctx context.Context, jobs []postgres.Job, endpoint string) (batch.ID, bool, error) {
	same, other := choose(jobs, endpoint)
	switch {
	case f.Again:
		return batch.ID{}, false, nil
	case same != nil:
		return same.Batch, true, f.goOn(ctx, *same, endpoint)
	case !f.ChangeEndpoint:
		return batch.ID{}, false, f.refuse(ctx, *other, endpoint)
	}
	return other.Batch, true, f.goOn(ctx, *other, endpoint)
}

// choose returns the newest of the jobs with the endpoint, and the newest with
// another one, of those an unfinished one if there is any.
func choose(jobs []postgres.Job, endpoint string) (same, other *postgres.Job) {
	for i := range jobs {
		switch j := &jobs[i]; {
		case sameEndpoint(*j, endpoint):
			if same == nil {
				same = j
			}
		case other == nil, other.Status.Terminal() && !j.Status.Terminal():
			other = j
		}
	}
	return same, other
}

// sameEndpoint: of a job of a former release the endpoint is not known.
func sameEndpoint(j postgres.Job, endpoint string) bool {
	return j.Endpoint == endpoint || j.Endpoint == ""
}

// goOn takes a job up again, or has its results written again.
func (f *finder) goOn(ctx context.Context, j postgres.Job, endpoint string) error {
	if err := f.raiseBudget(ctx, j); err != nil {
		return err
	}
	if f.RerunFailed {
		n, err := f.store.RerunRequests(ctx, j.Batch, batch.Allowance{}, batch.Failed, batch.Expired)
		if err != nil {
			return err
		}
		f.terminal.Notef("%d requests that failed or expired are run again", n)
	}
	b, err := f.store.GetBatch(ctx, j.Batch, nil)
	if err != nil {
		return err
	}
	if b.Status.Terminal() {
		hint := ""
		if !b.BudgetExceededAt.IsZero() {
			hint = "a larger --budget-tokens or --budget-cost goes on with what is left, "
		}
		if b.Unsuccessful() > 0 && !f.RerunFailed {
			hint += "--rerun-failed repeats what failed or expired, "
		}
		f.terminal.Notef("this input was run before (%s): its results are written again and nothing is called; %s--again runs it anew", j.Batch, hint)
		return nil
	}
	f.terminal.Notef("going on with %s: %d of %d requests are done", j.Batch, b.Counts.Done(), b.Counts.Total)
	if j.Endpoint == endpoint {
		return nil
	}
	if j.Endpoint != "" {
		f.terminal.Notef("it was begun with %s; the rest goes to %s", shownEndpoint(j.Endpoint), shownEndpoint(endpoint))
	}
	return f.store.SetJobEndpoint(ctx, j.Batch, endpoint)
}

// refuse says that the endpoint is another one than that of the job.
func (f *finder) refuse(ctx context.Context, j postgres.Job, endpoint string) error {
	b, err := f.store.GetBatch(ctx, j.Batch, nil)
	if err != nil {
		return err
	}
	what, mixed := "run before", "to write its results again"
	if !b.Status.Terminal() {
		what, mixed = "begun before", "to have the rest answered by "+shownEndpoint(endpoint)+" all the same"
	}
	return fmt.Errorf("%s was %s with %s (%s, %d of %d requests done), and now the endpoint is %s. "+
		"Give the former endpoint to go on with it, --change-endpoint %s, or --again to run it anew",
		f.Input.Name, what, shownEndpoint(j.Endpoint), j.Batch, b.Counts.Done(), b.Counts.Total, shownEndpoint(endpoint), mixed)
}

// abandon cancels the unfinished jobs of the same content and endpoint as the
// one that was made in their place.
func (f *finder) abandon(ctx context.Context, jobs []postgres.Job, instead batch.ID) error {
	if len(jobs) == 0 {
		return nil
	}
	endpoint, err := f.cfg.endpointOf(ctx, f.store, jobs[0].File)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		if j.Status.Terminal() || !sameEndpoint(j, endpoint) {
			continue
		}
		b, err := f.store.CancelBatch(ctx, j.Batch)
		if err != nil {
			return err
		}
		f.terminal.Notef("the unfinished %s is cancelled with %d of %d requests completed; %s begins anew", j.Batch, b.Counts.Completed, b.Counts.Total, instead)
	}
	return nil
}

func (f *finder) load(ctx context.Context) (batch.FileID, [32]byte, error) {
	reader, err := jsonl.NewReader(f.Input.Reader(ctx), jsonl.Config{AllowMixedEndpoints: true, Models: f.cfg.Settings.ModelsAllowed, Endpoints: f.cfg.Settings.EndpointsAllowed})
	if err != nil {
		return batch.FileID{}, [32]byte{}, err
	}
	began := time.Now()
	file, summary, err := f.tracer.Upload(ctx, func(ctx context.Context) (batch.FileID, batch.FileSummary, error) {
		return jsonl.Load(ctx, f.store, reader, f.Input.Name, owner, nil)
	})
	var invalid *jsonl.InvalidFileError
	if errors.As(err, &invalid) {
		return file, summary.SHA256, refused(f.Input.Name, invalid)
	}
	if err != nil {
		return file, summary.SHA256, fmt.Errorf("reading %s: %w", f.Input.Name, err)
	}
	f.terminal.Notef("read %s for %s in %v", cli.Count(int64(summary.Requests), "request"), cli.Count(int64(len(summary.Models)), "model"),
		time.Since(began).Round(time.Millisecond))
	return file, summary.SHA256, nil
}

// refused lists every bad line that the error lists.
func refused(name string, invalid *jsonl.InvalidFileError) error {
	var list strings.Builder
	for _, line := range invalid.Lines {
		fmt.Fprintf(&list, "\n  %s", line.Message)
	}
	if more := invalid.More(); more > 0 {
		fmt.Fprintf(&list, "\n  and %d more", more)
	}
	return fmt.Errorf("%s was refused, and nothing of it was kept:%s", name, list.String())
}

// priced is the budget with the prices of the file's models, as the settings have them.
func (f *finder) priced(ctx context.Context, file batch.FileID) (batch.Budget, error) {
	if f.Budget.Cost == 0 {
		return f.Budget, nil
	}
	models, err := f.store.FileModels(ctx, file)
	if err != nil {
		return batch.Budget{}, err
	}
	budget, err := f.Budget.WithPrices(batch.Prices(f.cfg.Settings.ModelPrices), models)
	if err != nil {
		return batch.Budget{}, fmt.Errorf("--budget-cost: %w; set FUSILLADE_MODEL_PRICES, or give --budget-tokens", err)
	}
	return budget, nil
}

// raiseBudget gives a job that is taken up again the budget that was asked for, and
// calls what a former one kept from being called. A crash between the two leaves a job
// that has ended with a budget that is not spent: the same command goes on from there.
func (f *finder) raiseBudget(ctx context.Context, j postgres.Job) error {
	if f.Budget.IsZero() {
		return nil
	}
	budget, err := f.priced(ctx, j.File)
	if err != nil {
		return err
	}
	if _, err := f.store.ChangeBatch(ctx, j.Batch, postgres.BatchChange{Budget: &budget}); err != nil {
		return err
	}
	b, err := f.store.GetBatch(ctx, j.Batch, nil)
	if err != nil || b.BudgetExceededAt.IsZero() || !b.Status.Terminal() {
		return err
	}
	if b.Bill().Spent() {
		f.terminal.Notef("the budget is spent already: %d tokens were used; nothing is called", b.Bill().Tokens())
		return nil
	}
	n, err := f.store.RerunRequests(ctx, j.Batch, batch.Allowance{}, batch.Canceled)
	if err == nil && n > 0 {
		f.terminal.Notef("the budget was raised, and is there for %s that the former one left", cli.Count(int64(n), "request"))
	}
	return err
}

func (f *finder) create(ctx context.Context, file batch.FileID) (batch.ID, error) {
	budget, err := f.priced(ctx, file)
	if err != nil {
		return batch.ID{}, err
	}
	endpoint, err := f.cfg.endpointOf(ctx, f.store, file)
	if err != nil {
		return batch.ID{}, err
	}
	id, _, err := f.tracer.CreateBatch(ctx, func(ctx context.Context, traceContext string) (batch.ID, bool, error) {
		return f.store.CreateBatch(ctx, postgres.NewBatch{
			File: file, CompletionWindow: f.Window, WindowText: f.WindowText, CreatedBy: owner, TraceContext: traceContext, Budget: budget,
			Job: &postgres.NewJob{Input: f.Input.Name, Endpoint: endpoint},
		})
	})
	return id, err
}
