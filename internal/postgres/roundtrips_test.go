package postgres

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"fusillade/internal/batch"
)

// countedTrips is a database that counts how often its user waits for an answer.
type countedTrips struct {
	database
	n int
}

func (c *countedTrips) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	c.n++
	return c.database.Query(ctx, sql, args...)
}

func (c *countedTrips) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	c.n++
	return c.database.QueryRow(ctx, sql, args...)
}

func (c *countedTrips) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	c.n++
	return c.database.Exec(ctx, sql, args...)
}

func (c *countedTrips) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	c.n++
	return c.database.SendBatch(ctx, b)
}

func (c *countedTrips) Begin(ctx context.Context) (pgx.Tx, error) {
	c.n++
	tx, err := c.database.Begin(ctx)
	return &countedTx{tx, c}, err
}

type countedTx struct {
	pgx.Tx
	c *countedTrips
}

func (t *countedTx) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	t.c.n++
	return t.Tx.QueryRow(ctx, sql, args...)
}

func (t *countedTx) Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error) {
	t.c.n++
	return t.Tx.Exec(ctx, sql, args...)
}

func (t *countedTx) SendBatch(ctx context.Context, b *pgx.Batch) pgx.BatchResults {
	t.c.n++
	return t.Tx.SendBatch(ctx, b)
}

func (t *countedTx) Commit(ctx context.Context) error {
	t.c.n++
	return t.Tx.Commit(ctx)
}

// A request that comes to an idle system waits for these round trips one after the
// other: the time to its call is theirs. What the survey and the list of what waits
// find is what each part of them finds alone.
func TestRoundTripsToACall(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	file := newFile(t, s, templates(1, 3, testModel, otherName))
	counted := &countedTrips{database: s.db}
	s.db = counted
	trips := func(what string, want int, f func()) {
		t.Helper()
		counted.n = 0
		if f(); counted.n != want {
			t.Errorf("%s: %d round trips, want %d", what, counted.n, want)
		}
	}
	var id batch.ID
	trips("create: begin, look, insert, commit", 4, func() {
		var err error
		id, _, err = s.CreateBatch(t.Context(), NewBatch{
			File: file, CompletionWindow: time.Hour, WindowText: "1h", CreatedBy: creator,
			IdempotencyKey: "once", Allowance: batch.Allowance{ActiveBatches: 10, QueuedRequests: 100},
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	trips("survey", 1, func() {
		settings, models, err := s.Survey(t.Context())
		if err != nil || len(settings) != 0 {
			t.Errorf("settings %v, %v", settings, err)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values([]batch.Model{testModel, otherName})), slices.Sorted(slices.Values(models))); diff != "" {
			t.Errorf("models (-want +got):\n%s", diff)
		}
	})
	trips("what waits", 1, func() {
		w, err := s.Waiting(t.Context(), testModel, []Route{{}}, "", batch.ID{})
		if err != nil || len(w.Cursors) != 1 || w.Cursors[0].Batch != id || w.Cursors[0].Remaining != 2 {
			t.Errorf("%+v, %v", w, err)
		}
	})
	var deliveries []Delivery
	trips("claim", 1, func() { deliveries = claimed(t, s, id, 2) })
	trips("batch, beside the claim", 1, func() {
		if _, err := s.GetBatch(t.Context(), id, nil); err != nil {
			t.Error(err)
		}
	})
	trips("start", 1, func() { start(t, s, rules(d), deliveries...) })
	trips("finish", 1, func() { finish(t, s, d, endings(completed, deliveries)...) })
	check(t, s)
}
