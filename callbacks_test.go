package fusillade_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"fusillade"
	"fusillade/internal/mock"
	"fusillade/internal/testenv"
)

// calls counts calls by custom id.
type calls struct {
	mu    sync.Mutex
	count map[string]int
}

func (c *calls) add(id string) (nth int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count == nil {
		c.count = make(map[string]int)
	}
	c.count[id]++
	return c.count[id]
}

func (c *calls) all() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int, len(c.count))
	for id, n := range c.count {
		out[id] = n
	}
	return out
}

// owed is how many calls Postgres knows of that are owed.
func (p *program) owed() (n int) {
	if err := p.db.QueryRow(p.t.Context(), `SELECT count(*) FROM callbacks`).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

func (p *program) submit(n int) fusillade.BatchID {
	p.t.Helper()
	id, err := p.Submit(p.t.Context(), sequence(n, nil), fusillade.SubmitOptions{})
	if err != nil {
		p.t.Fatal(err)
	}
	return id
}

// Each result is handed over as Results has it; one whose callback fails comes again,
// and holds up no other.
func TestOnResult(t *testing.T) {
	t.Parallel()
	var made calls
	var mu sync.Mutex
	got := make(map[string]fusillade.Result)
	p := newProgram(t, mock.Settings{Errors: "400=0.2"}, func(c *fusillade.Config) {
		c.OnResult = func(_ context.Context, r fusillade.Result) error {
			switch nth := made.add(r.CustomID); {
			case r.CustomID == "r7" && nth == 1:
				return errors.New("not now")
			case r.CustomID == "r8" && nth == 1:
				panic("not now")
			}
			mu.Lock()
			defer mu.Unlock()
			got[r.CustomID] = r
			return nil
		}
	})
	p.run()
	const n = 250
	id := p.submit(n)
	p.wait(id)
	testenv.Eventually(t, "each was called", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(got) == n
	})
	for r, err := range p.Results(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		g := got[r.CustomID]
		if fmt.Sprint(g) != fmt.Sprint(r) || g.Batch != id || (g.Error == nil) != (r.Error == nil) {
			t.Errorf("was called with %+v, want %+v", g, r)
		}
	}
	for id, times := range made.all() {
		if want := map[string]int{"r7": 2, "r8": 2}[id]; times != max(want, 1) {
			t.Errorf("%s was called %d times", id, times)
		}
	}
	testenv.Eventually(t, "nothing is owed", func() bool { return p.owed() == 0 })
}

// What a process leaves is called by the next one.
func TestOnResultIsTakenOver(t *testing.T) {
	t.Parallel()
	first := newProgram(t, mock.Settings{}, func(c *fusillade.Config) {
		c.DrainTimeout = 0
		c.OnResult = func(ctx context.Context, _ fusillade.Result) error {
			<-ctx.Done()
			return ctx.Err()
		}
	})
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- first.Run(ctx) }()
	const n = 40
	first.wait(first.submit(n))
	if owed := first.owed(); owed != n {
		t.Errorf("%d calls are owed, want %d", owed, n)
	}
	stop()
	if err := testenv.Receive(t, "the first process ends", ended); err != nil {
		t.Fatal(err)
	}
	var made calls
	cfg := first.cfg
	cfg.OnResult = func(_ context.Context, r fusillade.Result) error {
		if len(r.Body) == 0 || r.StatusCode != 200 || r.Next == 0 {
			t.Errorf("an empty result: %+v", r)
		}
		made.add(r.CustomID)
		return nil
	}
	second, err := fusillade.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = second.Close() })
	testenv.Run(t, second.Run)
	testenv.Eventually(t, "nothing is owed", func() bool { return first.owed() == 0 })
	if all := made.all(); len(all) != n {
		t.Errorf("%d of %d were called", len(all), n)
	}
}

// What OnResultTx does is there once for each result, whatever fails in between.
func TestOnResultTx(t *testing.T) {
	t.Parallel()
	var made calls
	p := newProgram(t, mock.Settings{Errors: "400=0.2"}, func(c *fusillade.Config) {
		c.OnResultTx = func(ctx context.Context, tx pgx.Tx, results []fusillade.Result) error {
			for _, r := range results {
				if _, err := tx.Exec(ctx, `INSERT INTO mine.seen VALUES ($1)`, r.CustomID); err != nil {
					return err
				}
				nth := made.add(r.CustomID)
				if nth > 2 {
					continue
				}
				switch r.CustomID {
				case "r3":
					return errors.New("not now")
				case "r4":
					panic("not now")
				case "r5":
					_, err := tx.Exec(ctx, `SELECT 1/0`)
					return err
				case "r6": // a transaction that is broken, and not said to be
					_, _ = tx.Exec(ctx, `SELECT 1/0`)
				case "r9": // that of the results is not the program's to end
					_ = tx.Rollback(ctx)
				}
			}
			return nil
		}
	})
	if _, err := p.db.Exec(t.Context(), `CREATE SCHEMA mine; CREATE TABLE mine.seen (id text)`); err != nil {
		t.Fatal(err)
	}
	p.run()
	const n = 120
	if b := p.wait(p.submit(n)); b.Completed+b.Failed != n {
		t.Fatalf("%+v", b)
	}
	testenv.Eventually(t, "nothing is owed", func() bool { return p.owed() == 0 })
	var rows, ids int
	if err := p.db.QueryRow(t.Context(), `SELECT count(*), count(DISTINCT id) FROM mine.seen`).Scan(&rows, &ids); err != nil {
		t.Fatal(err)
	}
	if rows != n || ids != n {
		t.Errorf("%d rows of %d results, want %d of each", rows, ids, n)
	}
	if made.all()["r3"] < 3 {
		t.Errorf("r3 was called %d times", made.all()["r3"])
	}
}

// A program that outstays its time takes its connection with it, and no result.
func TestOnResultTxOutOfTime(t *testing.T) {
	t.Parallel()
	var made calls
	p := newProgram(t, mock.Settings{}, func(c *fusillade.Config) {
		c.OnResultTx = func(ctx context.Context, tx pgx.Tx, results []fusillade.Result) error {
			if made.add(results[0].CustomID) == 1 {
				_, err := tx.Exec(ctx, `SELECT pg_terminate_backend(pg_backend_pid())`)
				return err
			}
			return nil
		}
	})
	p.run()
	if b := p.wait(p.submit(1)); b.Completed != 1 {
		t.Errorf("%+v", b)
	}
	testenv.Eventually(t, "nothing is owed", func() bool { return p.owed() == 0 })
	if n := made.all()["r0"]; n != 2 {
		t.Errorf("it was called %d times, want 2", n)
	}
	if calls := p.mock.CustomIDs()["r0"]; calls != 1 {
		t.Errorf("the endpoint was called %d times", calls)
	}
}

// A callback that nobody would call is refused.
func TestCallbacksNeedAConsumer(t *testing.T) {
	t.Parallel()
	for change, want := range map[string]func(*fusillade.Config){
		"RoleDispatcher":      func(c *fusillade.Config) { c.Role = fusillade.RoleDispatcher },
		"OnResultConcurrency": func(c *fusillade.Config) { c.OnResultConcurrency = 0 },
	} {
		cfg := fusillade.DefaultConfig()
		cfg.DataDir, cfg.Upstream = t.TempDir(), "http://127.0.0.1:1"
		cfg.OnResult = func(context.Context, fusillade.Result) error { return nil }
		want(&cfg)
		if _, err := fusillade.New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), change) {
			t.Errorf("%s: %v", change, err)
		}
	}
}
