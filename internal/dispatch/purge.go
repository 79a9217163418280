package dispatch

import (
	"context"
	"errors"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
)

const (
	// purgePage is the most files or batches that are listed at a time.
	purgePage = 100
	// maxPurgeErrors ends a part of a purge: the database is away.
	maxPurgeErrors = 20
)

// purge removes what was deleted or has expired, all of it, a few rows at a
// time. What fails is logged and left to the next purge, and the rest goes on.
// After a crash the next purge finds what is left. More than
// one may run at once, such as while the lead changes.
func (d *Dispatcher) purge(ctx context.Context) {
	begun := time.Now()
	rows, err := d.purgeAll(ctx)
	if err != nil && ctx.Err() == nil {
		d.cfg.Log.Warn("what was deleted could not be purged", "err", err)
	}
	if rows > 0 {
		d.cfg.Log.Info("purged what was deleted", "rows", rows, "seconds", time.Since(begun).Seconds())
	}
}

// purgeAll does batches before files: a file's requests can go once none of
// its batches is left.
func (d *Dispatcher) purgeAll(ctx context.Context) (rows int, err error) {
	var errs []error
	for n := purgePage; n == purgePage; {
		if n, err = d.cfg.Store.ExpireFiles(ctx, purgePage); err != nil {
			errs = append(errs, err)
			break
		}
	}
	batches, err := drain(ctx, d.cfg.Purge, d.cfg.Store.DeletedBatches, func(ctx context.Context, id batch.ID, n int) (int, error) {
		return d.purged(ctx)(d.cfg.Store.PurgeBatch(ctx, id, n))
	}, func(id batch.ID) bool { return d.purgeMessages(ctx, id) })
	errs = append(errs, err)
	files, err := drain(ctx, d.cfg.Purge, d.cfg.Store.DeletedFiles, func(ctx context.Context, id batch.FileID, n int) (int, error) {
		return d.purged(ctx)(d.cfg.Store.PurgeFile(ctx, id, n))
	}, nil)
	errs = append(errs, err)
	uploads, err := drain(ctx, d.cfg.Purge, d.cfg.Store.EndedUploads, func(ctx context.Context, id postgres.UploadID, n int) (int, error) {
		return d.purged(ctx)(d.cfg.Store.PurgeUpload(ctx, id, n))
	}, nil)
	return batches + files + uploads, errors.Join(append(errs, err)...)
}

// purged counts one delete, and returns its result.
func (d *Dispatcher) purged(ctx context.Context) func(rows int, err error) (int, error) {
	return func(rows int, err error) (int, error) {
		d.metrics.purged(ctx, rows, err)
		return rows, err
	}
}

// drain lists things and removes all rows of each, until none is listed that was
// not tried. Each is begun unless before returns false. One that is not begun, or
// fails, is left to the next purge, and the others go on.
func drain[ID comparable](ctx context.Context, p Purge, list func(context.Context, int) ([]ID, error),
	remove func(context.Context, ID, int) (int, error), before func(ID) bool,
) (rows int, err error) {
	left := make(map[ID]bool)
	var errs []error
	for {
		// Those that are left stay on the list, in front of the others.
		ids, err := list(ctx, purgePage+len(left))
		if err != nil {
			return rows, errors.Join(append(errs, err)...)
		}
		tried := 0
		for _, id := range ids {
			if left[id] {
				continue
			}
			tried++
			if before != nil && !before(id) {
				left[id] = true
				continue
			}
			n, err := removeAll(ctx, p, id, remove)
			if rows += n; err == nil {
				continue
			}
			if errs = append(errs, err); ctx.Err() != nil || len(errs) == maxPurgeErrors {
				return rows, errors.Join(errs...)
			}
			left[id] = true
		}
		if tried == 0 || len(ids) < purgePage+len(left) && tried < purgePage {
			return rows, errors.Join(errs...)
		}
	}
}

// removeAll removes all rows of one thing, a few at a time.
func removeAll[ID comparable](ctx context.Context, p Purge, id ID, remove func(context.Context, ID, int) (int, error)) (rows int, err error) {
	for n := -1; n != 0; {
		if n, err = remove(ctx, id, p.Rows); err != nil {
			return rows, err
		}
		rows += n
		failpoint.Hit(failpoint.Purging)
		if err := pause(ctx, p.Pause); err != nil {
			return rows, err
		}
	}
	return rows, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
