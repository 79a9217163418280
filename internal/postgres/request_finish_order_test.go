package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// A flush that ends some rows and returns others, and takeovers of the same
// rows, take them in one order.
func TestFinishAndTakeoverDoNotDeadlock(t *testing.T) {
	t.Parallel()
	const n, rounds = 400, 15
	s := newStore(t)
	for range rounds {
		a, b := newDaemon(t, s), newDaemon(t, s)
		in := started(t, s, a, newBatch(t, s, n), n)
		silence(t, s, a)
		var returns []Release
		for _, d := range in[:n/2] {
			returns = append(returns, Release{Delivery: d})
		}
		var g errgroup.Group
		g.Go(func() error {
			_, err := s.Finish(t.Context(), a, endings(completed, in[n/2:]), returns)
			return err
		})
		g.Go(func() error {
			_, err := s.Start(t.Context(), rules(b), redelivered(in))
			return err
		})
		var pg *pgconn.PgError
		if err := g.Wait(); errors.As(err, &pg) && pg.Code == "40P01" {
			t.Fatal("deadlock")
		} else if err != nil {
			t.Fatal(err)
		}
	}
	check(t, s)
}
