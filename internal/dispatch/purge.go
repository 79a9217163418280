package dispatch

import (
	"context"
	"errors"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
)

// purgePage is the most files or batches that are listed at a time.
const purgePage = 100

// purge removes what was deleted or has expired, all of it, a few rows at a
// time. After a crash or an error the next purge finds what is left. More than
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
// its batches is left. What fails keeps nothing else from being purged.
func (d *Dispatcher) purgeAll(ctx context.Context) (rows int, err error) {
	var failed []error
	done := func(n int, err error) {
		rows += n
		if err != nil {
			failed = append(failed, err)
		}
	}
	for n := purgePage; n == purgePage; {
		if n, err = d.cfg.Store.ExpireFiles(ctx, purgePage); err != nil {
			done(0, err)
			break
		}
	}
	done(drain(ctx, d.cfg.Purge, d.cfg.Store.DeletedBatches, func(ctx context.Context, id batch.ID, at *postgres.PurgePlace, n int) (int, error) {
		return d.purged(ctx)(d.cfg.Store.PurgeBatch(ctx, id, at, n))
	}, func(id batch.ID) bool { return d.purgeMessages(ctx, id) }))
	done(drain(ctx, d.cfg.Purge, d.cfg.Store.DeletedFiles, func(ctx context.Context, id batch.FileID, at *postgres.PurgePlace, n int) (int, error) {
		return d.purged(ctx)(d.cfg.Store.PurgeFile(ctx, id, at, n))
	}, nil))
	done(drain(ctx, d.cfg.Purge, d.cfg.Store.EndedUploads, func(ctx context.Context, id postgres.UploadID, _ *postgres.PurgePlace, n int) (int, error) {
		return d.purged(ctx)(d.cfg.Store.PurgeUpload(ctx, id, n))
	}, nil))
	return rows, errors.Join(failed...)
}

// purged counts one delete, and returns its result.
func (d *Dispatcher) purged(ctx context.Context) func(rows int, err error) (int, error) {
	return func(rows int, err error) (int, error) {
		d.metrics.purged(ctx, rows, err)
		return rows, err
	}
}

// maxPassedOver is after how many things that it passes over a purge gives up.
const maxPassedOver = 1000

// drain lists things and removes all rows of each, until none is listed but
// those that failed, that another is purging, or that before returned false for:
// they are left to the next purge.
func drain[ID comparable](ctx context.Context, p Purge, list func(context.Context, int) ([]ID, error),
	remove func(context.Context, ID, *postgres.PurgePlace, int) (int, error), before func(ID) bool,
) (rows int, err error) {
	passed := make(map[ID]bool)
	var failed []error
	for len(passed) < maxPassedOver {
		ids, err := list(ctx, purgePage+len(passed))
		if err != nil {
			return rows, errors.Join(append(failed, err)...)
		}
		begun := 0
		for _, id := range ids {
			if passed[id] {
				continue
			}
			begun++
			if before != nil && !before(id) {
				passed[id] = true
				continue
			}
			removed, err := drainOne(ctx, p, id, remove)
			if rows += removed; removed == 0 {
				passed[id] = true // another has it
			}
			if err != nil {
				passed[id] = true
				failed = append(failed, err)
			}
			if ctx.Err() != nil {
				return rows, errors.Join(append(failed, ctx.Err())...)
			}
		}
		if begun < purgePage {
			break
		}
	}
	return rows, errors.Join(failed...)
}

// purgeRest is by how much longer a purge rests than the delete before took, so that
// it takes no more than a fifth of the time, of a slow database as of a fast one.
const purgeRest = 4

// drainOne removes all rows of one thing.
func drainOne[ID comparable](ctx context.Context, p Purge, id ID, remove func(context.Context, ID, *postgres.PurgePlace, int) (int, error)) (rows int, err error) {
	var at postgres.PurgePlace
	for n := -1; n != 0; {
		began := time.Now()
		if n, err = remove(ctx, id, &at, p.Rows); err != nil {
			return rows, err
		}
		rows += n
		failpoint.Hit(failpoint.Purging)
		if err := pause(ctx, min(p.Pause, purgeRest*time.Since(began))); err != nil {
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
