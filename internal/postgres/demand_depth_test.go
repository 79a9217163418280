package postgres

import (
	"cmp"
	"encoding/json"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

// depths are the queues in the order of models, and the ages apart.
func depths(t *testing.T, s *Store) (queues []Depth, oldest map[batch.Model]time.Duration) {
	t.Helper()
	queues, err := s.QueueDepths(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	slices.SortFunc(queues, func(a, b Depth) int { return cmp.Compare(a.Model, b.Model) })
	oldest = make(map[batch.Model]time.Duration)
	for i := range queues {
		oldest[queues[i].Model] = queues[i].Oldest
		queues[i].Oldest = 0
	}
	return queues, oldest
}

func TestQueueDepths(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	if queues, _ := depths(t, s); len(queues) != 0 {
		t.Errorf("queues of an empty database: %+v", queues)
	}
	d := newDaemon(t, s)
	id := newBatch(t, s, 20, testModel, otherName) // ten of each
	newBatch(t, s, 4)
	sqlExec(t, s, `UPDATE batches SET created_at = now() - interval '1 hour' WHERE id = $1`, [16]byte(id))
	deliveries := started(t, s, d, id, 6)
	finish(t, s, d, endings(completed, deliveries[:1])...)
	if _, err := s.Finish(t.Context(), d, nil, []Release{{Delivery: deliveries[1], Retry: true, Delay: time.Minute}}); err != nil {
		t.Fatal(err)
	}
	claimed(t, s, id, 1)
	queues, oldest := depths(t, s)
	want := []Depth{
		{Model: testModel, Pending: 3 + 4 + 1, Claimed: 1, Processing: 4},
		{Model: otherName, Pending: 10},
	}
	slices.SortFunc(want, func(a, b Depth) int { return cmp.Compare(a.Model, b.Model) })
	if diff := gocmp.Diff(want, queues); diff != "" {
		t.Errorf("queues (-want +got):\n%s", diff)
	}
	for model, age := range oldest {
		if age < time.Hour || age > 2*time.Hour {
			t.Errorf("the oldest of %s waits for %v, want an hour", model, age)
		}
	}

	// What was never claimed is gone; one that was returned has long been due.
	claimed(t, s, id, 3)
	sqlExec(t, s, `UPDATE batches SET created_at = now() - interval '1 day'`)
	sqlExec(t, s, `UPDATE cursors SET claimed = total, open = false, last_line = 20 WHERE model = $1`, string(otherName))
	sqlExec(t, s, `UPDATE cursors SET claimed = total, open = false, last_line = 4 WHERE batch_id <> $1`, [16]byte(id))
	if _, oldest := depths(t, s); oldest[testModel] != 0 {
		t.Errorf("nothing waits, and the oldest for %v", oldest[testModel])
	}
	sqlExec(t, s, `UPDATE requests SET due_at = now() - interval '10 min', not_before = NULL WHERE state = 'pending'`)
	if _, oldest := depths(t, s); oldest[testModel] < 10*time.Minute || oldest[testModel] > time.Hour {
		t.Errorf("the oldest waits for %v, want ten minutes", oldest[testModel])
	}
}

// A batch that has ended in another way than by its requests is no queue.
func TestQueueDepthsOfClosedBatches(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	sqlExec(t, s, `UPDATE batches SET status = 'cancelled', finished_at = now(), canceled = total WHERE id = $1`,
		[16]byte(newBatch(t, s, 5)))
	if queues, _ := depths(t, s); len(queues) != 0 {
		t.Errorf("queues of a cancelled batch: %+v", queues)
	}
}

// What is pending behind the cursors is never read, however much it is.
func TestQueueDepthsPlan(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	claimed(t, s, newBatch(t, s, 5000), 50)
	sqlExec(t, s, `VACUUM ANALYZE`)
	var text []byte
	if err := s.queryRow(t.Context(), `EXPLAIN (FORMAT JSON, ANALYZE) `+queueDepthsSQL, []any{nil}, &text); err != nil {
		t.Fatal(err)
	}
	var plans []struct{ Plan node }
	if err := json.Unmarshal(text, &plans); err != nil {
		t.Fatal(err)
	}
	plan := &plans[0].Plan
	if rows := plan.touched(); rows > 200 {
		t.Errorf("%.0f rows are read for 50 live requests and one cursor", rows)
	}
	plan.walk(func(n *node) {
		if n.Relation == "templates" || n.Relation == "results" {
			t.Errorf("%s on %s", n.Type, n.Relation)
		}
	})
}
