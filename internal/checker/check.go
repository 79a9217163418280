package checker

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// DB is what the tables are read through: a pool, a connection or a pgx.Tx's
// parent. All that one call reads is read in one snapshot, so writers need not
// stop for it.
type DB interface {
	BeginTx(ctx context.Context, options pgx.TxOptions) (pgx.Tx, error)
}

// maxProblems bounds what one error lists.
const maxProblems = 20

// problems gathers contradictions.
type problems struct{ found []string }

func (p *problems) addf(format string, args ...any) {
	p.found = append(p.found, fmt.Sprintf(format, args...))
}

// want notes that a number is not what it must be.
func (p *problems) want(what string, got, want int64) {
	if got != want {
		p.addf("%s is %d, want %d", what, got, want)
	}
}

func (p *problems) err(id batch.ID) error {
	n := len(p.found)
	if n == 0 {
		return nil
	}
	listed := p.found[:min(n, maxProblems)]
	if n > maxProblems {
		listed = append(listed, fmt.Sprintf("and %d more", n-maxProblems))
	}
	return fmt.Errorf("%s: %s", id, strings.Join(listed, "; "))
}

// Check returns an error that lists what in the batch's tables contradicts
// what must hold at every instant. It reads the whole batch.
func Check(ctx context.Context, db DB, id batch.ID) error {
	var t tables
	err := read(ctx, db, func(tx pgx.Tx) error { return errors.Join(t.load(ctx, tx, id), t.loadUsage(ctx, tx, id)) })
	if err != nil {
		return fmt.Errorf("checking %s: %w", id, err)
	}
	var p problems
	t.checkCursors(&p)
	t.checkLines(&p)
	t.checkResults(&p)
	t.checkCounters(&p)
	t.checkStatus(&p)
	t.checkUsage(&p)
	return p.err(id)
}

// CheckAll checks every batch of the database that is not deleted: of others
// some may be purged already.
func CheckAll(ctx context.Context, db DB) error {
	var ids [][16]byte
	err := read(ctx, db, func(tx pgx.Tx) (err error) {
		rows, _ := tx.Query(ctx, `SELECT id FROM batches WHERE deleted_at IS NULL ORDER BY id`)
		ids, err = pgx.CollectRows(rows, pgx.RowTo[[16]byte])
		return err
	})
	if err != nil {
		return fmt.Errorf("listing batches: %w", err)
	}
	var errs []error
	for _, id := range ids {
		errs = append(errs, Check(ctx, db, batch.ID(id)))
	}
	return errors.Join(errs...)
}

// Erased returns an error if a table holds anything of the batch.
func Erased(ctx context.Context, db DB, id batch.ID) error {
	var p problems
	err := read(ctx, db, func(tx pgx.Tx) error {
		for table, key := range map[string]string{"batches": "id", "cursors": "batch_id", "requests": "batch_id", "results": "batch_id"} {
			var n int64
			if err := tx.QueryRow(ctx, `SELECT count(*) FROM `+table+` WHERE `+key+` = $1`, [16]byte(id)).Scan(&n); err != nil {
				return err
			}
			p.want("rows in "+table, n, 0)
		}
		return nil
	})
	return errors.Join(err, p.err(id))
}

// read runs f in one snapshot.
func read(ctx context.Context, db DB, f func(pgx.Tx) error) error {
	tx, err := db.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return err
	}
	return errors.Join(f(tx), tx.Rollback(ctx))
}
