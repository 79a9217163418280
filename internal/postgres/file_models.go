package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

const (
	finishFileModelsSQL = `
INSERT INTO file_models (file_id, model, requests, bytes)
SELECT $1, * FROM unnest($2::text[], $3::int[], $4::bigint[])`

	// What one owner's files add takes turns, so that no two pass a limit together.
	// It is taken before the rows that count are written.
	lockOwnerModelsSQL = `SELECT pg_advisory_xact_lock(hashtextextended('fusillade models of ' || $1, 0))`
	// The same for names that are new to all, which is rare. It is the last lock
	// that a transaction takes.
	lockModelsSQL = `SELECT pg_advisory_xact_lock(hashtextextended('fusillade models', 0))`

	// The names that only this file has, of its owner's.
	newOwnerModelsSQL = `
SELECT model FROM owner_models WHERE owner = $1 AND files = 1 AND model = ANY ($2::text[]) ORDER BY model`
	newModelSQL = `
SELECT n.model FROM unnest($2::text[]) AS n (model)
 WHERE NOT EXISTS (SELECT FROM owner_models WHERE model = n.model AND owner <> $1)
 ORDER BY 1 LIMIT 1`
	// Both stop beyond the limit.
	countOwnerModelsSQL = `SELECT count(*) FROM (SELECT FROM owner_models WHERE owner = $1 LIMIT $2) m`
	countModelsSQL      = `SELECT count(*) FROM (SELECT DISTINCT model FROM owner_models LIMIT $1) m`
)

// storeFileModels stores the models of a file that becomes ready, which counts
// them. It returns a *batch.ModelLimitError if a name that is new is one too
// many; names that other files have are never refused.
func storeFileModels(ctx context.Context, tx pgx.Tx, id batch.FileID, owner string, f batch.FileSummary) error {
	models, requests, bytes := modelArrays(f)
	limited := f.ModelLimits != batch.ModelLimits{}
	if limited {
		if _, err := tx.Exec(ctx, lockOwnerModelsSQL, owner); err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, finishFileModelsSQL, [16]byte(id), models, requests, bytes); err != nil || !limited {
		return err
	}
	rows, _ := tx.Query(ctx, newOwnerModelsSQL, owner, models)
	added, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(added) == 0 {
		return err
	}
	if limit := f.ModelLimits.PerOwner; limit > 0 {
		var count int
		if err := tx.QueryRow(ctx, countOwnerModelsSQL, owner, limit+1).Scan(&count); err != nil {
			return err
		}
		if count > limit {
			return &batch.ModelLimitError{Model: batch.Model(added[0]), Limit: limit}
		}
	}
	if limit := f.ModelLimits.Total; limit > 0 {
		return checkTotal(ctx, tx, owner, added, limit)
	}
	return nil
}

// queueFileModels stores the models of a file without limits.
func queueFileModels(b *pgx.Batch, id batch.FileID, f batch.FileSummary) {
	models, requests, bytes := modelArrays(f)
	b.Queue(finishFileModelsSQL, [16]byte(id), models, requests, bytes)
}

func modelArrays(f batch.FileSummary) (models []string, requests []int32, bytes []int64) {
	for _, m := range f.Models {
		models, requests, bytes = append(models, string(m.Model)), append(requests, int32(m.Requests)), append(bytes, m.Bytes)
	}
	return models, requests, bytes
}

func checkTotal(ctx context.Context, tx pgx.Tx, owner string, added []string, limit int) error {
	var name string
	err := tx.QueryRow(ctx, newModelSQL, owner, added).Scan(&name)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil
	}
	if err == nil {
		_, err = tx.Exec(ctx, lockModelsSQL)
	}
	var count int
	if err == nil {
		err = tx.QueryRow(ctx, countModelsSQL, limit+1).Scan(&count)
	}
	if err != nil {
		return fmt.Errorf("counting models: %w", err)
	}
	if count > limit {
		return &batch.ModelLimitError{Model: batch.Model(name), Limit: limit, Total: true}
	}
	return nil
}
