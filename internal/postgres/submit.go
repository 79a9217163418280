package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"fusillade/internal/batch"
)

// workChannel is what Postgres notifies when a transaction of another program that
// made a batch commits.
const workChannel = "fusillade_work"

// SubmitTx makes a file and a batch of it in a transaction of another program, and
// returns the batch, and whether it is new: under an idempotency key that its owner
// has used before there is one. When the transaction commits, Postgres notifies the
// leading dispatcher, if ListenForWork runs there; else it finds the batch by its
// poll. When it does not commit, nothing of either was ever there.
//
// Without an idempotency key no lock is taken that others wait for.
func SubmitTx(ctx context.Context, tx pgx.Tx, filename string, templates []batch.Template, summary batch.FileSummary, n NewBatch) (id batch.ID, created bool, err error) {
	if n.IdempotencyKey != "" {
		if _, err := tx.Exec(ctx, lockOwnerSQL, n.CreatedBy); err != nil {
			return id, false, fmt.Errorf("submitting: %w", err)
		}
		err := tx.QueryRow(ctx, batchByKeySQL, n.CreatedBy, n.IdempotencyKey).Scan((*[16]byte)(&id))
		if !errors.Is(err, pgx.ErrNoRows) {
			return id, false, err
		}
	}
	n.File = batch.FileID(newID())
	if _, err := tx.Exec(ctx, createFileSQL, [16]byte(n.File), filename, n.CreatedBy); err != nil {
		return id, false, fmt.Errorf("submitting: creating file: %w", err)
	}
	_, err = tx.CopyFrom(ctx, pgx.Identifier{"templates"}, templateColumns, &templateRows{file: [16]byte(n.File), templates: templates})
	if err != nil {
		return id, false, fmt.Errorf("submitting: storing templates: %w", err)
	}
	if err := finishFile(ctx, tx, n.File, summary); err != nil {
		return id, false, fmt.Errorf("submitting: %w", err)
	}
	id = newID()
	if err := n.insert(ctx, tx, id); err != nil {
		return batch.ID{}, false, fmt.Errorf("submitting: creating batch: %w", err)
	}
	if _, err := tx.Exec(ctx, `SELECT pg_notify($1, '')`, workChannel); err != nil {
		return batch.ID{}, false, fmt.Errorf("submitting: %w", err)
	}
	return id, true, nil
}

// ListenForWork calls work whenever a transaction with SubmitTx has committed, and
// once when it begins to listen. It returns when its session ends, or ctx does.
func (s *Store) ListenForWork(ctx context.Context, work func()) error {
	conn, err := s.session(ctx)
	if err != nil {
		return fmt.Errorf("listening for work: %w", err)
	}
	defer closeSession(ctx, conn)
	if _, err := conn.Exec(ctx, `LISTEN `+workChannel); err != nil {
		return fmt.Errorf("listening for work: %w", err)
	}
	work() // what was committed before
	for {
		// A server that went away without a word is found out by a question.
		waiting, cancel := context.WithTimeout(ctx, listenPing)
		_, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			work()
		case waiting.Err() != nil:
			asking, cancel := context.WithTimeout(ctx, s.timeout)
			err := conn.Ping(asking)
			cancel()
			if err != nil {
				return fmt.Errorf("listening for work: %w", err)
			}
		default:
			return fmt.Errorf("listening for work: %w", err)
		}
	}
}

const listenPing = 15 * time.Second
