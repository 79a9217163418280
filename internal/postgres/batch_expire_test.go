package postgres

import (
	"context"
	"sync"
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/checker"
	"fusillade/internal/testenv"
)

// overdue dates a batch's deadline back.
func overdue(t testing.TB, s *Store, id batch.ID, by time.Duration) {
	t.Helper()
	sqlExec(t, s, `UPDATE batches SET expires_at = now() - $2::interval WHERE id = $1`, [16]byte(id), by)
}

// expireNow expires a batch whatever its deadline is.
func expireNow(t testing.TB, s *Store, id batch.ID) []EndedBatch {
	t.Helper()
	overdue(t, s, id, time.Second)
	got, err := s.ExpireBatches(t.Context(), 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestExpireBatches(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id, processing := varied(t, s, d)
	other := newBatch(t, s, 3)
	if got, err := s.ExpireBatches(t.Context(), 0, 100); err != nil || len(got) != 0 {
		t.Fatalf("expired %+v before any deadline, %v", got, err)
	}
	overdue(t, s, id, time.Minute)
	if got, err := s.ExpireBatches(t.Context(), 2*time.Minute, 100); err != nil || len(got) != 0 {
		t.Fatalf("expired %+v within the grace, %v", got, err)
	}
	got, err := s.ExpireBatches(t.Context(), 30*time.Second, 100)
	if err != nil || len(got) != 1 || got[0] != (EndedBatch{Batch: id, Requests: 32}) {
		t.Fatalf("expired %+v, %v", got, err)
	}
	check(t, s)
	if c := counts(t, s, id); c.Expired != 32 || c.InProgress != 6 || c.Pending != 0 {
		t.Errorf("%+v", c)
	}
	if claims, err := s.Claim(t.Context(), testModel, []Quota{{Batch: id, N: 5}}); err != nil || len(claims) != 0 {
		t.Errorf("%d claimed, %v", len(claims), err)
	}
	// Calls in flight end as they do; what is released expires.
	if got, err := s.ExpireBatches(t.Context(), 0, 100); err != nil || len(got) != 0 {
		t.Errorf("expired %+v once more, %v", got, err)
	}
	finish(t, s, d, completed(processing[0]), failed(processing[1]))
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: processing[2]}}); err != nil {
		t.Fatal(err)
	}
	if got, err := s.ExpireBatches(t.Context(), 0, 100); err != nil || len(got) != 1 || got[0] != (EndedBatch{Batch: id, Requests: 1}) {
		t.Errorf("expired %+v of what was released, %v", got, err)
	}
	finish(t, s, d, endings(completed, processing[3:])...)
	b, err := s.GetBatch(t.Context(), id, nil)
	if err != nil || b.Status != batch.StatusExpired || b.Counts.Expired != 33 || b.FinishedAt.IsZero() {
		t.Errorf("%+v, %v", b, err)
	}
	for line, state := range readAll(t, s, id) {
		if line > 30 && state != batch.Expired {
			t.Errorf("line %d is %s", line, state)
		}
	}
	if r := page(t, s, id, 39, 100); len(r) == 0 || r[0].Reason != batch.BatchExpired && r[0].State == batch.Expired {
		t.Errorf("%+v", r)
	}
	if c := counts(t, s, other); c.Pending != 3 {
		t.Errorf("another batch: %+v", c)
	}
	check(t, s)
}

// A late batch that only waits for its last calls completes.
func TestLateBatchCompletes(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	d := newDaemon(t, s)
	id := newBatch(t, s, 2)
	deliveries := started(t, s, d, id, 2)
	if got := expireNow(t, s, id); len(got) != 0 {
		t.Errorf("expired %+v", got)
	}
	finish(t, s, d, endings(completed, deliveries)...)
	if b, err := s.GetBatch(t.Context(), id, nil); err != nil || b.Status != batch.StatusCompleted {
		t.Errorf("%+v, %v", b, err)
	}
	check(t, s)
}

// The deadline passes under traffic, and two leaders expire at once.
func TestExpireRaces(t *testing.T) {
	t.Parallel()
	const lines = 300
	s := newStore(t)
	for range 8 {
		id := newBatch(t, s, lines)
		stop := make(chan struct{})
		wg := traffic(t, s, id, stop)
		overdue(t, s, id, time.Second)
		var expiring sync.WaitGroup
		for range 2 {
			expiring.Go(func() {
				for range 5 {
					if _, err := s.ExpireBatches(t.Context(), 0, 10); err != nil {
						t.Error(err)
					}
					if err := checker.Check(t.Context(), s.pool, id); err != nil {
						t.Error(err)
					}
				}
			})
		}
		expiring.Wait()
		close(stop)
		wg.Wait()
		// Traffic leaves some requests processing for ever.
		sqlExec(t, s, `UPDATE requests SET state = 'pending', daemon_id = NULL, due_at = now() WHERE batch_id = $1 AND state = 'processing'`, [16]byte(id))
		if _, err := s.ExpireBatches(t.Context(), 0, 10); err != nil {
			t.Fatal(err)
		}
		b, err := s.GetBatch(t.Context(), id, nil)
		if err != nil || b.Status != batch.StatusExpired || b.Counts.Done() != lines {
			t.Errorf("%+v, %v", b, err)
		}
		if got := len(readAll(t, s, id)); got != lines {
			t.Errorf("%d lines in the output, want %d", got, lines)
		}
	}
	check(t, s)
}

// A batch that is overdue when it is listed may have a new deadline when its lock
// is taken: a rerun renews it.
func TestExpireBatchesLooksAgainUnderTheLock(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	id := newBatch(t, s, 2)
	overdue(t, s, id, time.Minute)
	renewing, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = renewing.Rollback(context.WithoutCancel(t.Context())) }()
	if _, err := renewing.Exec(t.Context(), `UPDATE batches SET expires_at = now() + interval '1 h' WHERE id = $1`, [16]byte(id)); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		expired []EndedBatch
		err     error
	}
	answered := make(chan answer, 1)
	go func() {
		got, err := s.ExpireBatches(t.Context(), 0, 10)
		answered <- answer{got, err}
	}()
	testenv.Eventually(t, "the expiry waits for the lock", func() bool {
		return sqlInt(t, s, `
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FOR NO KEY UPDATE%'`) == 1
	})
	if err := renewing.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := <-answered; got.err != nil || len(got.expired) != 0 {
		t.Errorf("expired %+v before the new deadline, %v", got.expired, got.err)
	}
	if c := counts(t, s, id); c.Pending != 2 {
		t.Errorf("%+v", c)
	}
}
