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
	n.File, id = batch.FileID(newID()), newID()
	args, err := n.args(id)
	if err != nil {
		return batch.ID{}, false, fmt.Errorf("submitting: %w", err)
	}
	survey, err := encodeSurvey(summary.Survey)
	if err != nil {
		return batch.ID{}, false, fmt.Errorf("submitting: %w", err)
	}
	// No statement looks at the answer of another, so all are sent at once.
	var b pgx.Batch
	b.Queue(readyFileSQL, [16]byte(n.File), filename, n.CreatedBy, summary.Bytes, summary.Requests, summary.SHA256[:], summary.Endpoint, survey)
	if len(templates) <= inlineTemplates {
		queueTemplates(&b, n.File, templates)
	} else if _, err := tx.CopyFrom(ctx, pgx.Identifier{"templates"}, templateColumns, &templateRows{file: [16]byte(n.File), templates: templates}); err != nil {
		return batch.ID{}, false, fmt.Errorf("submitting: storing templates: %w", err)
	}
	queueFileModels(&b, n.File, summary)
	b.Queue(createBatchSQL, args...)
	b.Queue(`SELECT pg_notify($1, '')`, workChannel)
	if err := tx.SendBatch(ctx, &b).Close(); err != nil {
		return batch.ID{}, false, fmt.Errorf("submitting: %w", err)
	}
	return id, true, nil
}

// inlineTemplates is up to how many are inserted in the same round trip as all else.
const inlineTemplates = 100

const (
	readyFileSQL = `
INSERT INTO files (id, status, filename, created_by, bytes, requests, sha256, endpoint, survey, expires_at)
VALUES ($1, 'ready', $2, $3, $4, $5, $6, $7, $8::text::jsonb, now() + interval '30 days')`

	insertTemplatesSQL = `
INSERT INTO templates (file_id, line, model, custom_id, method, path, body)
SELECT $1, * FROM unnest($2::int[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bytea[])`
)

func queueTemplates(b *pgx.Batch, file batch.FileID, templates []batch.Template) {
	n := len(templates)
	lines, bodies := make([]int32, n), make([][]byte, n)
	models, customs, methods, paths := make([]string, n), make([]string, n), make([]string, n), make([]string, n)
	for i, t := range templates {
		lines[i], models[i], customs[i], methods[i], paths[i], bodies[i] = t.Line, string(t.Model), t.CustomID, t.Method, t.Path, t.Body
	}
	b.Queue(insertTemplatesSQL, [16]byte(file), lines, models, customs, methods, paths, bodies)
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
