package localrun

import (
	"context"
	"fmt"
	"io"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

const resultsPage = 1000

// WriteResults streams the results that a batch has to the outputs, in output
// order.
func WriteResults(ctx context.Context, store *postgres.Store, id batch.ID, o *cli.Outputs) error {
	return o.Fill(func(results, failures io.Writer) (failed bool, err error) {
		pages := readPages(ctx, store, id)
		defer pages.stop()
		var line []byte
		for page := range pages.read {
			for _, r := range page {
				w := results
				if r.State == batch.Completed {
					line = jsonl.AppendOutputLine(line[:0], r)
				} else {
					line, w, failed = jsonl.AppendErrorLine(line[:0], r), failures, true
				}
				if _, err := w.Write(line); err != nil {
					return failed, fmt.Errorf("writing results: %w", err)
				}
			}
		}
		return failed, pages.err
	})
}

// resultPages are read one ahead of those that are written: Postgres fetches while
// lines are formatted.
type resultPages struct {
	read   chan []batch.Result
	cancel context.CancelFunc
	err    error // once read is closed
}

func readPages(ctx context.Context, store *postgres.Store, id batch.ID) *resultPages {
	p := &resultPages{read: make(chan []batch.Result)}
	ctx, p.cancel = context.WithCancel(ctx)
	go func() {
		defer close(p.read)
		for next := int64(0); ; {
			page, err := store.Results(ctx, id, next, resultsPage)
			if err != nil || len(page) == 0 {
				p.err = err
				return
			}
			next = page[len(page)-1].Seq + 1
			select {
			case p.read <- page:
			case <-ctx.Done():
				p.err = ctx.Err()
				return
			}
		}
	}()
	return p
}

// stop ends the reading, and waits for its end.
func (p *resultPages) stop() {
	p.cancel()
	for range p.read { // one page may be on its way
	}
}

// writePartial writes the results that an unfinished batch has. A run that goes
// on replaces them by all of them.
func writePartial(ctx context.Context, t *cli.Terminal, store *postgres.Store, o *cli.Outputs, b postgres.Batch) {
	if b.Counts.Done() == 0 {
		return
	}
	if err := WriteResults(ctx, store, b.ID, o); err != nil {
		if ctx.Err() != nil {
			t.Notef("the results so far are kept in the data directory; the same command writes them")
			return
		}
		t.Notef("the results so far are kept in the data directory; they could not be written: %v", err)
		return
	}
	t.Notef("the results so far, which are not all, are in %s", o.Results)
}

// summary says how the run went, as its exit code does.
func summary(t *cli.Terminal, o *cli.Outputs, b postgres.Batch) error {
	t.Notef("%d of %d requests completed: %s", b.Counts.Completed, b.Counts.Total, o.Results)
	if !b.BudgetExceededAt.IsZero() && b.Counts.Canceled > 0 {
		spent := fmt.Sprintf("%d tokens", b.Bill().Tokens())
		if b.Budget.Cost > 0 {
			spent += ", " + b.Bill().Cost().String()
		}
		return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("the budget is spent (%s): %s not called, see %s; the same command with a larger budget goes on with them",
			spent, cli.Count(b.Counts.Canceled, "request"), o.Failures)}
	}
	if failed := b.Counts.Done() - b.Counts.Completed; failed > 0 {
		return &cli.ExitError{Code: cli.ExitFailed, Err: fmt.Errorf("%s failed: see %s; --rerun-failed repeats them", cli.Count(failed, "request"), o.Failures)}
	}
	return nil
}
