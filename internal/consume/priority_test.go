package consume

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

func withPriority(n int) func(*postgres.NewBatch) {
	return func(b *postgres.NewBatch) { b.Priority = n }
}

// A batch of a higher priority passes its owner's others, whatever their deadlines
// are, and not another owner's.
func TestPriorityOrdersAnOwnersBatches(t *testing.T) {
	t.Parallel()
	const each = 60
	c := newBareCluster(t)
	g := make(gate)
	c.endpoint.set(g.answer)
	low := c.Begin(lines(each, testModel), by("alice"), window(time.Hour), withPriority(-5))
	bob := c.Begin(lines(each, testModel), by("bob"), window(100*time.Hour))
	high := c.Begin(lines(each, testModel), by("alice"), window(200*time.Hour), withPriority(5))
	c.startDispatcher(t, limits(map[batch.Model]batch.Limit{testModel: 2}))
	c.start()
	until(t, "two calls are in flight", func() bool { return c.endpoint.inFlight() == 2 })
	close(g)
	for _, id := range []batch.ID{high, low, bob} {
		c.AwaitEnd(id)
	}
	// Read from the results: more come between the end of a batch and a look at it.
	before := func(id batch.ID) int64 {
		return c.Count(`SELECT count(*) FROM results WHERE batch_id = $1 AND state = 'completed'
AND finished_at < (SELECT max(finished_at) FROM results WHERE batch_id = $2)`, [16]byte(id), [16]byte(high))
	}
	// What consumers hold already is not called back.
	if n := before(low); n > each/2 {
		t.Errorf("%d of %d requests of the low priority came before the last of the high one", n, each)
	}
	if n := before(bob); n < each/2 {
		t.Errorf("%d of bob's %d requests came meanwhile", n, each)
	}
	if got := c.Batch(high).Priority; got != 5 {
		t.Errorf("the priority is %d", got)
	}
}
