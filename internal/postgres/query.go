package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// pgxQuerier is a pool or a transaction.
type pgxQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// collect runs a query and reads each of its rows with scan.
func collect[T any](ctx context.Context, s *Store, scan pgx.RowToFunc[T], sql string, args ...any) ([]T, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, scan)
}

// forEach runs a query and calls f after each row was scanned.
func (s *Store) forEach(ctx context.Context, sql string, args, into []any, f func()) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	rows, err := s.db.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	return read{into: into, each: f}.rows(rows)
}

// read is a query of which each row is scanned into the same places.
type read struct {
	sql        string
	args, into []any
	each       func() // is called after each row
}

func (r read) rows(rows pgx.Rows) error {
	_, err := pgx.ForEachRow(rows, r.into, func() error {
		r.each()
		return nil
	})
	return err
}

// together makes reads in one round trip, each in a snapshot of its own.
func (s *Store) together(ctx context.Context, reads ...read) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	var b pgx.Batch
	for _, r := range reads {
		b.Queue(r.sql, r.args...).Query(r.rows)
	}
	return s.db.SendBatch(ctx, &b).Close()
}

func (s *Store) exec(ctx context.Context, sql string, args ...any) (int64, error) {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	tag, err := s.db.Exec(ctx, sql, args...)
	return tag.RowsAffected(), err
}

func (s *Store) queryRow(ctx context.Context, sql string, args []any, into ...any) error {
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return translate(s.db.QueryRow(ctx, sql, args...).Scan(into...))
}

// orZero scans a time, and NULL as the zero time.
func orZero(t *time.Time) pgtype.TimestamptzScanner { return zeroTime{t} }

type zeroTime struct{ *time.Time }

// ScanTimestamptz implements pgtype.TimestamptzScanner.
func (z zeroTime) ScanTimestamptz(v pgtype.Timestamptz) error {
	*z.Time = v.Time // zero if it is not valid
	return nil
}
