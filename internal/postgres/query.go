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
	_, err = pgx.ForEachRow(rows, into, func() error {
		f()
		return nil
	})
	return err
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
