package consume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/testenv"
)

// writes is where a flusher under test writes numbers, one item each.
type writes struct {
	refuse  func(item int) error // what one item of a statement meets; nil: nothing
	written []int
	apart   []int
	stopped []int
	calls   int
}

func (w *writes) flusher() *flusher[int] {
	return &flusher[int]{
		write: func(items []int) ([]int, error) {
			w.calls++
			for _, i := range items {
				if err := w.refuse(i); err != nil {
					return nil, err
				}
			}
			w.written = append(w.written, items...)
			return nil, nil
		},
		apart:   func(item int, _ postgres.Class, _ error) { w.apart = append(w.apart, item) },
		stopped: func(items []int) { w.stopped = append(w.stopped, items...) },
		failing: &incident{what: "writing", log: discard()},
		metrics: func(postgres.Class) {},
	}
}

func numbers(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func TestFlushSetsApartWhatIsRefused(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"22021", "XX000", "XX001", "23503", "42501", "26000", "P0001"} {
		for _, bad := range [][]int{{17}, {0}, {199}, {0, 199}, {3, 4, 5, 160}} {
			t.Run(fmt.Sprint(code, bad), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					w := &writes{refuse: func(item int) error {
						if slices.Contains(bad, item) {
							return &pgconn.PgError{Code: code}
						}
						return nil
					}}
					w.flusher().flush(t.Context(), numbers(200))
					slices.Sort(w.apart)
					slices.Sort(w.written)
					if !slices.Equal(w.apart, bad) {
						t.Errorf("set apart are %v, want %v", w.apart, bad)
					}
					if len(w.written) != 200-len(bad) || len(slices.Compact(w.written)) != 200-len(bad) || len(w.stopped) > 0 {
						t.Errorf("%d were written and %d left, want all others written once", len(w.written), len(w.stopped))
					}
					if w.calls > 40*len(bad) {
						t.Errorf("%d statements to find %d of 200", w.calls, len(bad))
					}
				})
			})
		}
	}
}

// A cause that is none of the items' fault sets nothing apart, and costs few
// statements while it lasts.
func TestFlushWaitsForWhatPasses(t *testing.T) {
	t.Parallel()
	for name, cause := range map[string]error{
		"away":           fmt.Errorf("writing: %w", io.ErrUnexpectedEOF),
		"shutting down":  &pgconn.PgError{Code: "57P01"},
		"not allowed":    &pgconn.PgError{Code: "42501"},
		"migrating":      &pgconn.PgError{Code: "42703"},
		"internal error": &pgconn.PgError{Code: "XX000"},
		"pooler":         &pgconn.PgError{Code: "26000"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				const outage = time.Minute
				began := time.Now()
				w := &writes{refuse: func(int) error {
					if time.Since(began) < outage {
						return cause
					}
					return nil
				}}
				w.flusher().flush(t.Context(), numbers(500))
				if len(w.written) != 500 || len(w.apart)+len(w.stopped) > 0 {
					t.Errorf("%d written, %d set apart, %d left; want all written", len(w.written), len(w.apart), len(w.stopped))
				}
				if w.calls > 200 {
					t.Errorf("%d statements in %v", w.calls, outage)
				}
			})
		})
	}
}

func TestFlushStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		w := &writes{refuse: func(int) error { return &pgconn.PgError{Code: "57P01"} }}
		w.flusher().flush(ctx, numbers(10))
		if !slices.Equal(w.stopped, numbers(10)) {
			t.Errorf("left are %v, want all", w.stopped)
		}
	})
}

// refuseResults makes Postgres refuse results with these custom ids, for a cause
// of the given code, as long as pass is not called.
func (c *cluster) refuseResults(code string, customIDs ...string) (pass func()) {
	c.Exec(`CREATE TABLE refused AS SELECT unnest($1::text[]) AS custom_id`, customIDs)
	c.Exec(fmt.Sprintf(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM refused f JOIN templates t USING (custom_id) JOIN batches b ON b.file_id = t.file_id
                WHERE b.id = NEW.batch_id AND t.line = NEW.line) THEN
        RAISE EXCEPTION 'refused' USING ERRCODE = '%s';
    END IF;
    RETURN NEW;
END $$`, code))
	c.Exec(`CREATE TRIGGER refuse BEFORE INSERT ON results FOR EACH ROW EXECUTE FUNCTION refuse()`)
	return func() { c.Exec(`DELETE FROM refused`) }
}

// What Postgres refuses for another cause than its content is kept until it
// takes it, and was paid for once; the others are not held up.
func TestPaidAnswerIsKept(t *testing.T) {
	t.Parallel()
	for _, code := range []string{"23503", "XX000", "42501"} {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			pass := c.refuseResults(code, "r7", "r12")
			c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, c call) { fmt.Fprint(w, testenv.ChatAnswer(c.customID)) })
			r := c.start()
			id := c.Begin(lines(20, testModel))
			until(t, "the others are stored", func() bool { return c.Batch(id).Counts.Done() == 18 })
			if got := c.Batch(id).Counts; got.Failed > 0 {
				t.Errorf("%d requests failed", got.Failed)
			}
			pass()
			for customID, got := range c.AwaitEnd(id) {
				if got.State != batch.Completed || string(got.Body) != testenv.ChatAnswer(customID) || got.Attempts != 1 || len(c.endpoint.of(customID)) != 1 {
					t.Errorf("%s is %s after %d calls, with body %q", customID, got.State, len(c.endpoint.of(customID)), got.Body)
				}
			}
			until(t, "nothing is in flight", func() bool { return r.inflight.count() == 0 })
		})
	}
}

// A refused result whose cause does not pass ends with the consumer.
func TestStopWithAnUnstoredResult(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	pass := c.refuseResults("XX000", "r0")
	r := c.start()
	id := c.Begin(lines(2, testModel))
	until(t, "one is kept", func() bool {
		r.unstored.mu.Lock()
		defer r.unstored.mu.Unlock()
		return len(r.unstored.items) == 1
	})
	r.takeNone()
	r.doNone()
	r.wait()
	if n := r.inflight.count(); n != 0 {
		t.Errorf("%d tasks are in flight after the stop", n)
	}
	pass()
	c.Exec(`UPDATE daemons SET status = 'dead', last_heartbeat = now() - interval '1 h'`)
	c.Exec(`UPDATE requests SET state = 'pending', daemon_id = NULL, due_at = now() WHERE state = 'processing'`)
	c.start()
	c.AwaitEnd(id)
}

// While results of so many bytes wait no call begins, and then they do.
func TestResultsThatWaitAreBounded(t *testing.T) {
	t.Parallel()
	const n, size, bound = 40, 100_000, 300_000
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: 10, otherModel: 10}))
	body := []byte(testenv.ChatAnswer(strings.Repeat("x", size-len(testenv.ChatAnswer("")))))
	c.endpoint.set(func(w http.ResponseWriter, _ *http.Request, _ call) { _, _ = w.Write(body) })
	away := make(chan struct{})
	store := &faultyStore{store: c.Store, finish: func(int64) fault {
		select {
		case <-away:
			return none
		default:
			return refused
		}
	}}
	r := c.startTuned(func(r *Consumer) { r.capacity.maxResults = bound }, func(cfg *Config) { cfg.Store, cfg.MaxInFlight = store, 1 })
	id := c.Begin(lines(n, testModel, otherModel)) // more than one is ready beside each call
	until(t, "the bound is reached", func() bool { return r.capacity.results.Load() >= bound })
	until(t, "a write was tried again and again", func() bool { return store.finishes.Load() > 4 })
	// One more may have been in flight.
	if calls := len(c.endpoint.all()); calls > bound/size+1 {
		t.Errorf("%d calls of %d bytes each were made while results wait, with a bound of %d", calls, size, bound)
	}
	if room := r.room(); room != 0 {
		t.Errorf("room is %d while results wait", room)
	}
	close(away)
	c.AwaitEnd(id)
	until(t, "nothing is in flight", func() bool { return r.inflight.count() == 0 })
	if bytes := r.capacity.results.Load(); bytes != 0 {
		t.Errorf("%d bytes are counted with nothing in flight", bytes)
	}
	if calls := len(c.endpoint.all()); calls != n {
		t.Errorf("%d calls, want %d", calls, n)
	}
}

// Results that are stored and wait for a program count too.
func TestResultsThatWaitForAProgramAreBounded(t *testing.T) {
	t.Parallel()
	const bound = 1000
	c := newCluster(t, limits(map[batch.Model]batch.Limit{testModel: 10}))
	r := c.startTuned(func(r *Consumer) {
		r.capacity.maxResults = bound
		r.AddResult(bound)
	})
	id := c.Begin(lines(3, testModel))
	until(t, "their messages wait", func() bool { return c.Queued() == 3 })
	if calls := len(c.endpoint.all()); calls != 0 || r.room() != 0 {
		t.Errorf("%d calls were made, with room for %d, while results wait for the program", calls, r.room())
	}
	r.FreeResult(bound)
	c.AwaitEnd(id)
}

func TestIncidentIsLoggedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log logLines
		i := &incident{what: "writing results", log: log.logger()}
		count := func() (n int) {
			for range log.lines() {
				n++
			}
			return n
		}
		for range 100 {
			i.failed(postgres.Unavailable, 3, errors.New("away"))
		}
		i.end()
		i.end()
		if n := count(); n != 2 {
			t.Errorf("%d lines about an incident of 100 failures, want its begin and its end", n)
		}
	})
}
