//go:build unix

package embed

import (
	"context"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"fusillade"
	"fusillade/internal/checker"
	"fusillade/internal/failpoint"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// built is where the program under test is.
var built programs.Dir

func TestMain(m *testing.M) {
	programs.Main(m, &built, func() (programs.Dir, error) {
		return programs.Build("../..", "embed", "./e2e/embed/program", "-tags", "failpoint")
	})
}

// system is what the programs of a test share.
type system struct {
	t        *testing.T
	db       *pgx.Conn
	f        *fusillade.Fusillade // to look, and to submit
	endpoint *mock.Server
	args     []string
}

func newSystem(t *testing.T) *system {
	t.Helper()
	endpoint, err := mock.New(mock.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	upstream := httptest.NewServer(endpoint)
	t.Cleanup(upstream.Close)
	s := &system{t: t, endpoint: endpoint, args: []string{testenv.DatabaseURL(t), testenv.NATS(t).URL(), upstream.URL}}
	if s.db, err = pgx.Connect(t.Context(), s.args[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.db.Close(context.Background()) })
	if _, err := s.db.Exec(t.Context(), `CREATE SCHEMA mine; CREATE TABLE mine.called (id text); CREATE TABLE mine.seen (id text); CREATE TABLE mine.orders (batch text)`); err != nil {
		t.Fatal(err)
	}
	cfg := fusillade.DefaultConfig()
	cfg.DatabaseURL, cfg.Upstream, cfg.Logger = s.args[0], s.args[2], testenv.Logger(t)
	if cfg.NATS, err = nats.Connect(s.args[1]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cfg.NATS.Close)
	if s.f, err = fusillade.New(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.f.Close() })
	return s
}

func (s *system) start(what, failpoint string, more ...string) *programs.Process {
	s.t.Helper()
	return built.Start(s.t, programs.Environment("FAILPOINT="+failpoint), "program", append(append([]string{what}, s.args...), more...)...)
}

func (s *system) count(sql string) (n int) {
	s.t.Helper()
	if err := s.db.QueryRow(s.t.Context(), sql).Scan(&n); err != nil {
		s.t.Fatal(err)
	}
	return n
}

// A program is killed in the middle of its results, and another goes on: what is done
// in the transaction of a result is there once for each, and each result was handed
// over.
func TestCallbacksOutliveACrash(t *testing.T) {
	t.Parallel()
	for _, point := range []failpoint.Point{failpoint.Called, failpoint.Within, failpoint.Owed, failpoint.Answered} {
		t.Run(string(point), func(t *testing.T) {
			t.Parallel()
			s := newSystem(t)
			first := s.start("work", string(point)+":3:kill")
			const n = 60
			id, err := s.f.Submit(t.Context(), func(yield func(fusillade.Request, error) bool) {
				for i := range n {
					if !yield(fusillade.Request{CustomID: fmt.Sprintf("r%d", i), Body: map[string]any{"model": "m", "messages": []any{}}}, nil) {
						return
					}
				}
			}, fusillade.SubmitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			testenv.Receive(t, "the program was killed", first.Done())
			if got, seen := s.count(`SELECT count(*) FROM results`), s.count(`SELECT count(*) FROM mine.seen`); got != seen {
				t.Errorf("after the crash there are %d results, and %d that OnResultTx has seen", got, seen)
			}
			if point == failpoint.Owed && s.count(`SELECT count(*) FROM callbacks`) == 0 {
				t.Error("nothing is owed after the crash")
			}
			second := s.start("work", "")
			b, err := s.f.Wait(t.Context(), id)
			if err != nil || b.Completed != n {
				t.Errorf("%+v, %v", b, err)
			}
			testenv.Eventually(t, "nothing is owed", func() bool { return s.count(`SELECT count(*) FROM callbacks`) == 0 })
			if all, distinct := s.count(`SELECT count(*) FROM mine.seen`), s.count(`SELECT count(DISTINCT id) FROM mine.seen`); all != n || distinct != n {
				t.Errorf("OnResultTx has %d rows, of %d results, want %d", all, distinct, n)
			}
			all, distinct := s.count(`SELECT count(*) FROM mine.called`), s.count(`SELECT count(DISTINCT id) FROM mine.called`)
			if distinct != n {
				t.Errorf("OnResult was called of %d results, want %d", distinct, n)
			}
			if point == failpoint.Answered && all <= distinct {
				t.Errorf("OnResult was called %d times of %d results: the call that was cut off was not made again", all, distinct)
			}
			second.Sound(t)
			checker.AtEnd(t, s.db)
		})
	}
}

// A program dies at an instant of the transaction in which it submits. The batch and
// the program's own row are both there, or neither, and nothing is called of a batch
// that is not there.
func TestSubmitTxOutlivesACrash(t *testing.T) {
	t.Parallel()
	s := newSystem(t)
	worker := s.start("work", "")
	tries := []string{"before", "after"}
	for range 8 {
		tries = append(tries, "at")
	}
	committed := make(map[string]int) // by instant
	for _, instant := range tries {
		before := s.count(`SELECT count(*) FROM mine.orders`)
		p := s.start("submit", "", instant)
		testenv.Receive(t, "the program was killed", p.Done())
		// A commit that was sent may still be under way.
		testenv.Eventually(t, "its session is gone", func() bool {
			return s.count(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'commit%' AND state <> 'idle'`) == 0
		})
		committed[instant] += s.count(`SELECT count(*) FROM mine.orders`) - before
	}
	if committed["before"] != 0 || committed["after"] != 1 {
		t.Errorf("a crash before the commit left %d orders, one after it %d", committed["before"], committed["after"])
	}
	t.Logf("%d of 8 crashes at the commit came too late for it", committed["at"])
	rows, err := s.db.Query(t.Context(), `SELECT batch FROM mine.orders`)
	if err != nil {
		t.Fatal(err)
	}
	orders, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range orders {
		id, err := fusillade.ParseBatchID(text)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := s.f.Wait(t.Context(), id); err != nil || b.Completed != 1 {
			t.Errorf("%+v, %v", b, err)
		}
	}
	if batches := s.count(`SELECT count(*) FROM batches`); batches != len(orders) {
		t.Errorf("%d batches of %d orders", batches, len(orders))
	}
	if calls := s.endpoint.Stats().Calls; calls != int64(len(orders)) {
		t.Errorf("%d calls of %d batches", calls, len(orders))
	}
	if s.endpoint.CustomIDs()["before"] != 0 {
		t.Error("a batch was called whose transaction did not commit")
	}
	worker.Sound(t)
}
