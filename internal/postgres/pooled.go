package postgres

import (
	"context"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"fusillade/internal/pgconnect"
)

// database runs statements and transactions, on any session.
type database interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults
	Begin(ctx context.Context) (pgx.Tx, error)
}

// pooled is a database behind a pooler that gives out sessions by the transaction.
// Each transaction brings its settings along, sent together with its first
// statement: a single statement still costs one round trip.
type pooled struct {
	pool *pgxpool.Pool
	pin  string
}

func newPooled(pool *pgxpool.Pool, major int) *pooled {
	return &pooled{pool: pool, pin: pgconnect.PinSQL(major)}
}

// Begin implements database.
func (p *pooled) Begin(ctx context.Context) (pgx.Tx, error) {
	return p.pool.BeginTx(ctx, pgx.TxOptions{BeginQuery: "BEGIN ISOLATION LEVEL READ COMMITTED; " + p.pin})
}

// SendBatch implements database. The statements of a batch are one transaction.
func (p *pooled) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	var first pgx.Batch
	first.Queue(p.pin)
	with := &pgx.Batch{QueuedQueries: slices.Concat(first.QueuedQueries, b.QueuedQueries)}
	return p.pool.SendBatch(ctx, with)
}

// Exec implements database.
func (p *pooled) Exec(ctx context.Context, sql string, args ...any) (tag pgconn.CommandTag, err error) {
	results := p.send(ctx, sql, args)
	if _, err := results.Exec(); err != nil {
		_ = results.Close() // its error is the same
		return tag, err
	}
	tag, err = results.Exec()
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	return tag, err
}

// Query implements database.
func (p *pooled) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	results := p.send(ctx, sql, args)
	_, err := results.Exec()
	if err == nil {
		var rows pgx.Rows
		if rows, err = results.Query(); err == nil {
			return &pooledRows{Rows: rows, results: results}, nil
		}
	}
	_ = results.Close() // its error is the same
	return nil, err
}

// QueryRow implements database.
func (p *pooled) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	rows, err := p.Query(ctx, sql, args...)
	return pooledRow{rows, err}
}

func (p *pooled) send(ctx context.Context, sql string, args []any) pgx.BatchResults {
	var b pgx.Batch
	b.Queue(p.pin)
	b.Queue(sql, args...)
	return p.pool.SendBatch(ctx, &b)
}

// pooledRows gives its connection back when it is closed, by its reader or by the
// last row.
type pooledRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

// Next implements pgx.Rows.
func (r *pooledRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

// Close implements pgx.Rows.
func (r *pooledRows) Close() {
	r.Rows.Close()
	if r.results != nil {
		r.err, r.results = r.results.Close(), nil
	}
}

// Err implements pgx.Rows. The transaction ends with the rows: if it fails, so do
// they.
func (r *pooledRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}

// pooledRow is one row, or none.
type pooledRow struct {
	rows pgx.Rows
	err  error
}

// Scan implements pgx.Row.
func (r pooledRow) Scan(into ...any) error {
	if r.err != nil {
		return r.err
	}
	defer r.rows.Close()
	if !r.rows.Next() {
		if err := r.rows.Err(); err != nil {
			return err
		}
		return pgx.ErrNoRows
	}
	if err := r.rows.Scan(into...); err != nil {
		return err
	}
	r.rows.Close()
	return r.rows.Err()
}
