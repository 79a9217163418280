package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/postgres"
)

// input is the file of requests, or standard input.
type input struct {
	io.ReadCloser
	name string
	file *os.File // nil for standard input and pipes, which can be read once only
}

func openInput(path string) (*input, error) {
	if path == "-" {
		return &input{ReadCloser: io.NopCloser(os.Stdin), name: "standard input"}, nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("--input: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, errors.Join(fmt.Errorf("--input: %w", err), f.Close())
	case info.IsDir():
		return nil, errors.Join(fmt.Errorf("--input: %s is a directory; give a file of requests", path), f.Close())
	case !info.Mode().IsRegular():
		return &input{ReadCloser: f, name: filepath.Base(path)}, nil
	}
	return &input{ReadCloser: f, name: filepath.Base(path), file: f}, nil
}

// sum hashes a regular file and rewinds it. False: it can be read once only.
func (in *input) sum(ctx context.Context) (digest [32]byte, ok bool, err error) {
	if in.file == nil {
		return digest, false, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, in.file}); err != nil {
		return digest, false, fmt.Errorf("reading %s: %w", in.name, err)
	}
	if _, err := in.file.Seek(0, io.SeekStart); err != nil {
		return digest, false, fmt.Errorf("reading %s: %w", in.name, err)
	}
	return [32]byte(h.Sum(nil)), true, nil
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// createdBy marks the files and batches of this command in the database.
const createdBy = "fusillade run"

// job finds or makes the batch of an input. A job is known by the content of
// its input: whoever runs the same file with the same data directory goes on
// with the batch that is there.
type job struct {
	store      *postgres.Store
	input      *input
	window     time.Duration
	windowText string
	again      bool
	terminal   *terminal
}

func (j *job) batch(ctx context.Context) (batch.ID, error) {
	// This process has the data directory to itself, so an upload in it has no
	// client any more.
	if _, err := j.store.RemoveAbandonedFiles(ctx, 0); err != nil {
		return batch.ID{}, err
	}
	digest, known, err := j.input.sum(ctx)
	if err != nil {
		return batch.ID{}, err
	}
	if known {
		if id, found, err := j.resume(ctx, digest); found || err != nil {
			return id, err
		}
		if file, err := j.store.FindFile(ctx, digest, createdBy); err == nil {
			return j.create(ctx, file)
		} else if !errors.Is(err, batch.ErrNotFound) {
			return batch.ID{}, err
		}
	}
	file, summary, err := j.load(ctx)
	if err != nil {
		return batch.ID{}, err
	}
	if !known {
		if id, found, err := j.resume(ctx, summary.SHA256); found || err != nil {
			return id, err
		}
	}
	return j.create(ctx, file)
}

// resume returns the batch of this content that there is, unless it has ended
// and the user wants it anew.
func (j *job) resume(ctx context.Context, digest [32]byte) (batch.ID, bool, error) {
	id, err := j.store.NewestBatch(ctx, digest, createdBy)
	if errors.Is(err, batch.ErrNotFound) {
		return batch.ID{}, false, nil
	}
	if err != nil {
		return batch.ID{}, false, err
	}
	b, err := j.store.GetBatch(ctx, id, nil)
	switch {
	case err != nil:
		return batch.ID{}, false, err
	case !b.Status.Terminal():
		j.terminal.say("going on with %s: %d of %d requests are done", id, b.Counts.Done(), b.Counts.Total)
	case j.again:
		return batch.ID{}, false, nil
	default:
		j.terminal.say("this input was run before (%s): its results are written again and nothing is called; --again runs it anew", id)
	}
	return id, true, nil
}

func (j *job) load(ctx context.Context) (batch.FileID, batch.FileSummary, error) {
	reader, err := jsonl.NewReader(contextReader{ctx, j.input}, jsonl.Config{AllowMixedEndpoints: true})
	if err != nil {
		return batch.FileID{}, batch.FileSummary{}, err
	}
	began := time.Now()
	file, summary, err := jsonl.Load(ctx, j.store, reader, j.input.name, createdBy, nil)
	var invalid *jsonl.InvalidFileError
	if errors.As(err, &invalid) {
		return file, summary, refused(j.input.name, invalid)
	}
	if err != nil {
		return file, summary, fmt.Errorf("reading %s: %w", j.input.name, err)
	}
	j.terminal.say("read %d requests to %d models in %v", summary.Requests, len(summary.Models), time.Since(began).Round(time.Millisecond))
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

func (j *job) create(ctx context.Context, file batch.FileID) (batch.ID, error) {
	id, _, err := j.store.CreateBatch(ctx, postgres.NewBatch{
		File: file, CompletionWindow: j.window, WindowText: j.windowText, CreatedBy: createdBy,
	})
	return id, err
}
