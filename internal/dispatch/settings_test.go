package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/streams"
)

func (c *cluster) change(m batch.Model, change postgres.ModelChange) {
	c.T.Helper()
	if err := c.Store.ChangeModel(c.T.Context(), m, change); err != nil {
		c.T.Fatal(err)
	}
	c.Hint(streams.HintWork)
}

// waiting is how many messages of the model are in the stream.
func (c *cluster) waiting(m batch.Model) int {
	c.T.Helper()
	consumer, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(m))
	if err != nil {
		return 0
	}
	return int(consumer.CachedInfo().NumPending)
}

func ends(d time.Duration) func(*postgres.NewBatch) {
	return func(n *postgres.NewBatch) { n.CompletionWindow = d }
}

func escalating(to batch.Model, before time.Duration) func(*Config) {
	return func(cfg *Config) {
		cfg.Escalations = map[batch.Model]batch.Escalation{testModel: {Model: to, Threshold: before}}
	}
}

// Without a poll: from the moment at which a batch has less than the threshold
// left, its requests go to the escalation model, and none before.
func TestBatchCrossesItsThreshold(t *testing.T) {
	t.Parallel()
	const lead = 6 * time.Second // in which a window is filled
	c := newCluster(t)
	d, _ := c.start(escalating(otherModel, time.Hour), func(cfg *Config) { cfg.DefaultLimit = 1 })
	id := c.Begin(lines(60, testModel), ends(time.Hour+lead))
	until(t, "requests go to the escalation model", func() bool { return c.waiting(otherModel) >= 1+minDepth })
	if n := c.waiting(testModel); n < 1+minDepth {
		t.Errorf("%d messages wait for the model itself, want a full window, %d", n, 1+minDepth)
	}
	until(t, "all that is left has gone there", func() bool {
		c.take(otherModel, 10)
		c.take(testModel, 10)
		return c.Count(`SELECT count(*) FROM cursors WHERE open`) == 0
	})
	const wrong = `
SELECT count(*) FROM requests r JOIN batches b ON b.id = r.batch_id
 WHERE (claimed_at > expires_at - interval '1 h') <> (routed_model = $1)`
	if n := c.Count(wrong, string(otherModel)); n != 0 {
		t.Errorf("%d requests were claimed for the wrong model", n)
	}
	routed := c.Count(`SELECT count(*) FROM requests WHERE batch_id = $1 AND routed_model = $2`, [16]byte(id), string(otherModel))
	counted := d.metrics.escalations.WithLabelValues(string(testModel), string(otherModel))
	until(t, "each escalation is counted", func() bool { return testutil.ToFloat64(counted) == float64(routed) })
	if n := testutil.CollectAndCount(d.metrics.escalations); n != 1 {
		t.Errorf("%d kinds of escalations are counted, want 1", n)
	}
}

// What waits in Postgres for a new claim goes there too, though the model that
// it waits for takes nothing.
func TestWaitingRequestsEscalate(t *testing.T) {
	t.Parallel()
	for _, paused := range []bool{false, true} {
		t.Run(fmt.Sprintf("paused: %t", paused), func(t *testing.T) {
			t.Parallel()
			const n = 3
			c := newCluster(t)
			c.change(testModel, postgres.ModelChange{Paused: &paused})
			id := c.Begin(lines(n, testModel), ends(time.Minute))
			claimed, err := c.Store.Claim(t.Context(), testModel, []postgres.Quota{{Batch: id, N: n}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := c.Store.ReleaseClaims(t.Context(), claimed, 0); err != nil {
				t.Fatal(err)
			}
			c.start(escalating(otherModel, time.Hour))
			until(t, "they wait for the escalation model", func() bool { return c.waiting(otherModel) == n })
			if got := c.Count(`SELECT count(*) FROM requests WHERE state = 'claimed' AND claim = 2 AND routed_model = $1`, string(otherModel)); got != n {
				t.Errorf("%d requests are claimed for it, want %d", got, n)
			}
		})
	}
}

// What operators decide wins over the environment, and is in force without a
// restart and without a poll.
func TestEscalationsChange(t *testing.T) {
	t.Parallel()
	const third batch.Model = "third"
	c := newCluster(t)
	none, to := batch.Model(""), third
	c.change(testModel, postgres.ModelChange{EscalateTo: &none})
	c.start(escalating(otherModel, time.Hour), func(cfg *Config) { cfg.DefaultLimit = 1 })
	c.Begin(lines(100, testModel), ends(30*time.Minute))
	until(t, "they stay with the model", func() bool { return c.waiting(testModel) >= 1+minDepth })
	if n := c.Count(`SELECT count(*) FROM requests WHERE routed_model <> model`); n != 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
	before := time.Hour
	c.change(testModel, postgres.ModelChange{EscalateTo: &to, EscalateBefore: &before})
	until(t, "they go to another one", func() bool { return c.waiting(third) >= 1+minDepth })
	kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	until(t, "consumers are told", func() bool {
		entries, err := slots.List(t.Context(), kv)
		return err == nil && entries[testModel].Settings().Escalation == batch.Escalation{Model: third, Threshold: time.Hour}
	})
	c.change(testModel, postgres.ModelChange{DefaultEscalation: true})
	until(t, "they go where the environment says", func() bool { return c.waiting(otherModel) >= 1+minDepth })
}

// Models that escalate to each other exchange their requests, and each takes
// one step.
func TestEscalationsInACircle(t *testing.T) {
	t.Parallel()
	const n = 6
	c := newCluster(t)
	c.start(func(cfg *Config) {
		cfg.DefaultLimit = n
		cfg.Escalations = map[batch.Model]batch.Escalation{
			testModel: {Model: otherModel, Threshold: time.Hour}, otherModel: {Model: testModel, Threshold: time.Hour},
		}
	})
	c.Begin(lines(n, testModel, otherModel), ends(time.Minute))
	c.queued(n)
	if got := c.Count(`SELECT count(*) FROM requests WHERE model <> routed_model AND claim = 1`); got != n {
		t.Errorf("%d requests are with the other model, want %d", got, n)
	}
}

func TestSettings(t *testing.T) {
	t.Parallel()
	cfg := Config{DefaultLimit: 10, Limits: map[batch.Model]batch.Limit{"a": 2, "b": 3}, Escalations: map[batch.Model]batch.Escalation{
		"a": {Model: "b", Threshold: time.Minute}, "b": {Model: "c", Threshold: time.Hour}, "x": {Model: "b", Threshold: time.Second},
	}}
	s := newSettings(&cfg, map[batch.Model]postgres.ModelSettings{
		"b": {Limit: 7, Escalation: &batch.Escalation{}}, "c": {Paused: true, Escalation: &batch.Escalation{Model: "b", Threshold: 2 * time.Minute}},
	})
	got := map[batch.Model]slots.Settings{}
	for _, m := range []batch.Model{"a", "b", "c", "d"} {
		got[m] = s.slots(m)
	}
	want := map[batch.Model]slots.Settings{
		"a": {Limit: 2, Escalation: batch.Escalation{Model: "b", Threshold: time.Minute}}, "b": {Limit: 7},
		"c": {Limit: 10, Paused: true, Escalation: batch.Escalation{Model: "b", Threshold: 2 * time.Minute}}, "d": {Limit: 10},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
	routes := []postgres.Route{{}, {From: "a", Below: time.Minute}, {From: "c", Below: 2 * time.Minute}, {From: "x", Below: time.Second}}
	if diff := cmp.Diff(routes, s.routes("b")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]postgres.Route{{AtLeast: 2 * time.Minute}}, s.routes("c")); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	if len(cfg.Escalations) != 3 {
		t.Errorf("the environment's escalations were changed: %v", cfg.Escalations)
	}
}

// A paused model is not claimed from, not even by a dispatcher that begins
// then; a resumed one is, without a poll.
func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	yes, no := true, false
	c.change(testModel, postgres.ModelChange{Paused: &yes})
	c.start()
	c.Begin(lines(60, testModel, otherModel))
	until(t, "the other model's window is full", func() bool { return c.waiting(otherModel) >= 4+minDepth })
	if n := c.Count(`SELECT count(*) FROM requests WHERE model = $1`, string(testModel)); n != 0 {
		t.Errorf("%d requests were claimed of a paused model", n)
	}
	c.change(testModel, postgres.ModelChange{Paused: &no})
	until(t, "so is that of the resumed one", func() bool { return c.waiting(testModel) >= 4+minDepth })

	kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	paused := func(want bool) {
		t.Helper()
		until(t, "consumers are told", func() bool {
			entries, err := slots.List(t.Context(), kv)
			return err == nil && entries[testModel].Paused == want
		})
	}
	paused(false)
	c.change(testModel, postgres.ModelChange{Paused: &yes})
	paused(true)
	open := c.Count(`SELECT claimed FROM cursors WHERE model = $1`, string(testModel))
	c.take(testModel, 100)
	until(t, "the other model goes on", func() bool {
		c.take(otherModel, 1)
		return c.Count(`SELECT claimed FROM cursors WHERE model = $1`, string(otherModel)) == 30
	})
	if n := c.Count(`SELECT claimed FROM cursors WHERE model = $1`, string(testModel)); n != open {
		t.Errorf("%d requests were claimed of a paused model", n-open)
	}
	c.change(testModel, postgres.ModelChange{Paused: &no})
	until(t, "all are claimed", func() bool {
		c.take(testModel, 10)
		return c.Count(`SELECT claimed FROM cursors WHERE model = $1`, string(testModel)) == 30
	})
}

// An owner's weight decides about their share of what is claimed.
func TestOwnersShareAModel(t *testing.T) {
	t.Parallel()
	const taken = 200
	c := newCluster(t)
	if err := c.Store.SetOwnerWeight(t.Context(), "bob", 3); err != nil {
		t.Fatal(err)
	}
	for _, owner := range []string{"alice", "alice", "alice", "bob"} {
		c.Begin(lines(3000, testModel), func(n *postgres.NewBatch) { n.CreatedBy = owner })
	}
	c.start()
	for n := 0; n < taken; {
		until(t, "more is published", func() bool { return c.waiting(testModel) > 0 })
		n += len(c.take(testModel, 3))
	}
	// Within one claim each owner's requests are published one after the other,
	// so only whole claims say something.
	share := c.Count(`
SELECT 100 * sum(c.claimed) FILTER (WHERE b.created_by = 'bob') / sum(c.claimed) FROM cursors c JOIN batches b ON b.id = c.batch_id`)
	if share < 70 || share > 80 {
		t.Errorf("bob got %d %% of all, want 75", share)
	}
}

// More batches than are listed at once all get their turn, without a poll.
func TestManySmallBatches(t *testing.T) {
	t.Parallel()
	const batches = 1100
	c := newCluster(t)
	c.Begin(lines(1, testModel))
	c.Exec(`
WITH b AS (
    INSERT INTO batches (id, file_id, endpoint, completion_window, created_by, expires_at, total)
    SELECT gen_random_uuid(), file_id, endpoint, completion_window, created_by, expires_at, 1 FROM batches, generate_series(2, $1::int)
    RETURNING id, file_id)
INSERT INTO cursors (batch_id, model, file_id, total) SELECT id, $2, file_id, 1 FROM b`, batches, string(testModel))
	c.start(func(cfg *Config) { cfg.DefaultLimit = 400 })
	seen := make(map[string]bool)
	until(t, "each has come", func() bool {
		for _, msg := range c.take(testModel, 200) {
			seen[msg.Subject()] = true
		}
		return len(seen) == batches
	})
}
