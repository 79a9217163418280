package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// NewJob is what a batch of a local file is created with beside.
type NewJob struct {
	Input    string // what the file is called
	Endpoint string // where its calls go, in words
}

const newJobSQL = `INSERT INTO jobs (batch_id, input, endpoint) VALUES ($1, $2, $3)`

// Job is a batch that was made of a local file.
type Job struct {
	NewJob // the endpoint of jobs of former releases is empty: not known
	Batch  batch.ID
	File   batch.FileID
	Status batch.Status
}

const (
	jobsSQL = `
SELECT j.batch_id, b.file_id, b.status, j.input, j.endpoint
  FROM jobs j JOIN batches b ON b.id = j.batch_id
 WHERE b.deleted_at IS NULL`

	jobsOfSQL = `
SELECT b.id, b.file_id, b.status, j.input, j.endpoint
  FROM files f
  JOIN batches b ON b.file_id = f.id
  JOIN jobs j ON j.batch_id = b.id
 WHERE f.sha256 = $1 AND f.status = 'ready' AND b.deleted_at IS NULL
 ORDER BY b.id DESC`
)

// Jobs lists all jobs, newest first.
func (s *Store) Jobs(ctx context.Context) ([]Job, error) {
	return s.jobs(ctx, jobsSQL+` ORDER BY j.batch_id DESC`)
}

// JobsOf lists the jobs of files with exactly this content, newest first.
func (s *Store) JobsOf(ctx context.Context, sha256 [32]byte) ([]Job, error) {
	return s.jobs(ctx, jobsOfSQL, sha256[:])
}

func (s *Store) jobs(ctx context.Context, sql string, args ...any) ([]Job, error) {
	jobs, err := collect(ctx, s, func(row pgx.CollectableRow) (j Job, err error) {
		err = row.Scan((*[16]byte)(&j.Batch), (*[16]byte)(&j.File), &j.Status, &j.Input, &j.Endpoint)
		return j, err
	}, sql, args...)
	if err != nil {
		return nil, fmt.Errorf("listing jobs: %w", err)
	}
	return jobs, nil
}

// SetJobEndpoint records that the calls of a job go elsewhere from now on.
func (s *Store) SetJobEndpoint(ctx context.Context, id batch.ID, endpoint string) error {
	if _, err := s.exec(ctx, `UPDATE jobs SET endpoint = $2 WHERE batch_id = $1`, [16]byte(id), endpoint); err != nil {
		return fmt.Errorf("recording the endpoint of %s: %w", id, err)
	}
	return nil
}

// UnfinishedBatches lists the batches in progress, of all owners.
func (s *Store) UnfinishedBatches(ctx context.Context) ([]batch.ID, error) {
	ids, err := s.batchIDs(ctx, `SELECT id FROM batches WHERE status = 'in_progress' ORDER BY id`)
	if err != nil {
		return nil, fmt.Errorf("listing batches in progress: %w", err)
	}
	return ids, nil
}

// FileModels lists the models that a file's requests name.
func (s *Store) FileModels(ctx context.Context, id batch.FileID) ([]batch.Model, error) {
	models, err := collect(ctx, s, pgx.RowTo[string], `SELECT model FROM file_models WHERE file_id = $1 ORDER BY model`, [16]byte(id))
	if err != nil {
		return nil, fmt.Errorf("listing the models of %s: %w", id, err)
	}
	out := make([]batch.Model, len(models))
	for i, m := range models {
		out[i] = batch.Model(m)
	}
	return out, nil
}

const (
	// The file goes with the last batch of it.
	otherBatchesSQL = `
SELECT EXISTS (SELECT FROM batches WHERE file_id = $1 AND id <> $2 AND deleted_at IS NULL)`
	forgetRows = 10_000
)

// RemoveJob deletes a job with its results, and its file unless there are other
// batches of it. An unfinished one is cancelled first. Its rows are removed at
// once; after a crash the next purge removes them. It is for a database that
// this process has to itself.
func (s *Store) RemoveJob(ctx context.Context, j Job) error {
	var others bool
	if err := s.queryRow(ctx, otherBatchesSQL, []any{[16]byte(j.File), [16]byte(j.Batch)}, &others); err != nil {
		return fmt.Errorf("deleting %s: %w", j.Batch, err)
	}
	if _, err := s.DeleteBatch(ctx, j.Batch); err != nil {
		return err
	}
	var batchAt, fileAt PurgePlace
	if err := drainRows(func() (int, error) { return s.PurgeBatch(ctx, j.Batch, &batchAt, forgetRows) }); err != nil || others {
		return err
	}
	if _, err := s.DeleteFile(ctx, j.File); err != nil && !errors.Is(err, batch.ErrNotFound) {
		return err
	}
	return drainRows(func() (int, error) { return s.PurgeFile(ctx, j.File, &fileAt, forgetRows) })
}

// drainRows removes rows until none is left.
func drainRows(remove func() (int, error)) error {
	for {
		if n, err := remove(); err != nil || n == 0 {
			return err
		}
	}
}
