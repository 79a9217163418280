package jsonl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"

	"fusillade/internal/batch"
)

// templateStore is where a file's lines are kept. A file that was created is
// either finished or removed; one that neither happens to is removed by the
// leading dispatcher when it has lain untouched for long.
type templateStore interface {
	CreateFile(ctx context.Context, filename, createdBy string) (batch.FileID, error)
	// CopyTemplates keeps the whole chunk or nothing of it.
	CopyTemplates(ctx context.Context, id batch.FileID, templates []batch.Template) error
	// TouchFile keeps a file that is being uploaded from lying untouched.
	TouchFile(ctx context.Context, id batch.FileID) error
	FinishFile(ctx context.Context, id batch.FileID, s batch.FileSummary) error
	RemoveFile(ctx context.Context, id batch.FileID) error
}

const (
	// A chunk is one COPY and one short transaction.
	loadChunkRequests = 4000
	loadChunkBytes    = 4 << 20
	removeTimeout     = time.Minute
	// touchInterval is well below the hour after which a file that lies untouched
	// is taken for abandoned. One long line alone may take longer to arrive.
	touchInterval = 10 * time.Minute
)

// Finish makes a file usable whose lines are all stored, as the store's
// FinishFile does. If it returns an error, the file is removed.
type Finish func(ctx context.Context, id batch.FileID, s batch.FileSummary) error

// Load reads a file into the store in constant memory: while one chunk is
// written the next is read. At the end it calls finish, or the store's
// FinishFile if that is nil. Nothing remains of a file that is refused or whose
// source fails. Errors are those of Reader.Next, of finish and the store's.
func Load(ctx context.Context, store templateStore, r *Reader, filename, createdBy string, finish Finish) (batch.FileID, batch.FileSummary, error) {
	if finish == nil {
		finish = store.FinishFile
	}
	id, err := store.CreateFile(ctx, filename, createdBy)
	if err != nil {
		return batch.FileID{}, batch.FileSummary{}, err
	}
	err = load(ctx, store, r, id)
	if err == nil {
		err = finish(ctx, id, r.Summary())
	}
	if err != nil {
		removing, cancel := context.WithTimeout(context.WithoutCancel(ctx), removeTimeout)
		defer cancel()
		if removeErr := store.RemoveFile(removing, id); removeErr != nil {
			err = errors.Join(err, fmt.Errorf("the refused file is left to be removed later: %w", removeErr))
		}
		return batch.FileID{}, batch.FileSummary{}, err
	}
	return id, r.Summary(), nil
}

func load(ctx context.Context, store templateStore, r *Reader, id batch.FileID) error {
	g, gctx := errgroup.WithContext(ctx)
	chunks := make(chan []batch.Template)
	touched := time.Now()
	r.lines.arrived = func() error {
		if time.Since(touched) < touchInterval {
			return nil
		}
		touched = time.Now()
		return store.TouchFile(gctx, id)
	}
	g.Go(func() error {
		defer close(chunks)
		return readChunks(gctx, r, chunks)
	})
	g.Go(func() error {
		for chunk := range chunks {
			if err := store.CopyTemplates(gctx, id, chunk); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

func readChunks(ctx context.Context, r *Reader, chunks chan<- []batch.Template) error {
	for {
		chunk, err := readChunk(r)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if len(chunk) > 0 {
			select {
			case chunks <- chunk:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
	}
}

func readChunk(r *Reader) (chunk []batch.Template, err error) {
	for bytes := 0; len(chunk) < loadChunkRequests && bytes < loadChunkBytes; {
		t, err := r.Next()
		if err != nil {
			return chunk, err
		}
		chunk = append(chunk, t)
		bytes += len(t.Body)
	}
	return chunk, nil
}
