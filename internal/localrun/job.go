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
)

// createdBy marks the files and batches of this command in the database.
const createdBy = "fusillade run"

// finder finds or makes the batch of a job. A job is known by the content of
// its input: the same file with the same data directory goes on with the batch
// that is there.
type finder struct {
	Job
	store    *postgres.Store
	terminal *cli.Terminal
}

// batch returns the batch of the job, which may have ended before.
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
	if known {
		if id, found, err := f.resume(ctx, digest); found || err != nil {
			return id, err
		}
		if file, err := f.store.FindFile(ctx, digest, createdBy); err == nil {
			return f.create(ctx, file)
		} else if !errors.Is(err, batch.ErrNotFound) {
			return batch.ID{}, err
		}
	}
	file, summary, err := f.load(ctx)
	if err != nil {
		return batch.ID{}, err
	}
	if !known {
		if id, found, err := f.resume(ctx, summary.SHA256); found || err != nil {
			return id, err
		}
	}
	return f.create(ctx, file)
}

// resume returns the batch of this content that there is, unless it has ended
// and the user wants it anew.
func (f *finder) resume(ctx context.Context, digest [32]byte) (batch.ID, bool, error) {
	id, err := f.store.NewestBatch(ctx, digest, createdBy)
	if errors.Is(err, batch.ErrNotFound) {
		return batch.ID{}, false, nil
	}
	if err != nil {
		return batch.ID{}, false, err
	}
	b, err := f.store.GetBatch(ctx, id, nil)
	switch {
	case err != nil:
		return batch.ID{}, false, err
	case !b.Status.Terminal():
		f.terminal.Notef("going on with %s: %d of %d requests are done", id, b.Counts.Done(), b.Counts.Total)
	case f.Again:
		return batch.ID{}, false, nil
	default:
		f.terminal.Notef("this input was run before (%s): its results are written again and nothing is called; --again runs it anew", id)
	}
	return id, true, nil
}

func (f *finder) load(ctx context.Context) (batch.FileID, batch.FileSummary, error) {
	reader, err := jsonl.NewReader(f.Input.Reader(ctx), jsonl.Config{AllowMixedEndpoints: true})
	if err != nil {
		return batch.FileID{}, batch.FileSummary{}, err
	}
	began := time.Now()
	file, summary, err := jsonl.Load(ctx, f.store, reader, f.Input.Name, createdBy, nil)
	var invalid *jsonl.InvalidFileError
	if errors.As(err, &invalid) {
		return file, summary, refused(f.Input.Name, invalid)
	}
	if err != nil {
		return file, summary, fmt.Errorf("reading %s: %w", f.Input.Name, err)
	}
	f.terminal.Notef("read %d requests to %d models in %v", summary.Requests, len(summary.Models), time.Since(began).Round(time.Millisecond))
	return file, summary, nil
}

// refused lists every bad line that the error lists.
func refused(name string, invalid *jsonl.InvalidFileError) error {
	var list strings.Builder
	for _, line := range invalid.Lines {
		fmt.Fprintf(&list, "\n  %s", line.Message)
	}
	if more := invalid.Total - len(invalid.Lines); more > 0 {
		fmt.Fprintf(&list, "\n  and %d more", more)
	}
	return fmt.Errorf("%s was refused, and nothing of it was kept:%s", name, list.String())
}

func (f *finder) create(ctx context.Context, file batch.FileID) (batch.ID, error) {
	id, _, err := f.store.CreateBatch(ctx, postgres.NewBatch{
		File: file, CompletionWindow: f.Window, WindowText: f.WindowText, CreatedBy: createdBy,
	})
	return id, err
}
