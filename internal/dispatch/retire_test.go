package dispatch

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/streams"
)

func quickRetire(cfg *Config) {
	cfg.ModelIdle, cfg.ClaimInterval = 50*time.Millisecond, 100*time.Millisecond
}

func (c *cluster) slots() jetstream.KeyValue {
	c.T.Helper()
	kv, err := c.JS.KeyValue(c.T.Context(), streams.SlotsBucket)
	if err != nil {
		c.T.Fatal(err)
	}
	return kv
}

// kept reports whether the model has a consumer of the stream, and an entry.
func (c *cluster) kept(m batch.Model) (consumer, entry bool) {
	c.T.Helper()
	_, err := c.Stream.Consumer(c.T.Context(), streams.ConsumerName(m))
	if err != nil && !errors.Is(err, jetstream.ErrConsumerNotFound) {
		c.T.Fatal(err)
	}
	entries, listErr := slots.List(c.T.Context(), c.slots())
	if listErr != nil {
		c.T.Fatal(listErr)
	}
	_, ok := entries[m]
	return err == nil, ok
}

// finish takes a message of the model and finishes its request, before it acks
// the message: the request of an acked one is the sweep's.
func (c *cluster) finish(m batch.Model, daemon batch.DaemonID) {
	c.T.Helper()
	finished := false
	until(c.T, "its message is delivered", func() bool {
		c.take(m, 1, func(msg jetstream.Msg) { finished = c.finishOne(msg, daemon) })
		return finished
	})
}

// startOne starts a message's request, of whatever claim it is by now.
func (c *cluster) startOne(msg jetstream.Msg, daemon batch.DaemonID) (postgres.Delivery, postgres.Verdict) {
	c.T.Helper()
	_, id, err := streams.ParseRequestSubject(msg.Subject())
	if err != nil {
		c.T.Fatal(err)
	}
	meta, err := msg.Metadata()
	if err != nil {
		c.T.Fatal(err)
	}
	claim := c.Count(`SELECT COALESCE((SELECT claim FROM requests WHERE batch_id = $1 AND line = $2), 0)`, [16]byte(id.Batch), id.Line)
	delivery := postgres.Delivery{ID: id, Claim: int(claim), Number: int(meta.NumDelivered)}
	started, err := c.Store.Start(c.T.Context(), postgres.StartRules{Daemon: daemon, ProcessingTimeout: never, StaleThreshold: never}, []postgres.Delivery{delivery})
	if err != nil {
		c.T.Fatal(err)
	}
	return delivery, started[0].Verdict
}

// finishOne finishes a message's request, unless it was taken back before the
// message was published.
func (c *cluster) finishOne(msg jetstream.Msg, daemon batch.DaemonID) bool {
	c.T.Helper()
	delivery, verdict := c.startOne(msg, daemon)
	if verdict != postgres.Started {
		return false
	}
	id := delivery.ID
	done := postgres.Completion{Delivery: delivery, State: batch.Completed, Attempts: 1, StatusCode: 200, Body: []byte("{}")}
	written, err := c.Store.Finish(c.T.Context(), daemon, []postgres.Completion{done}, nil)
	if err != nil || !written[id] {
		c.T.Fatalf("%v, %v", written, err)
	}
	return true
}

// What an idle model costs goes, in all dispatchers, and not before its requests
// have finished; with its next request all of it is back.
func TestIdleModelIsRetired(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	one, _ := c.start(quickRetire)
	other, _ := c.start(quickRetire)
	daemon := c.daemon()
	for range 3 {
		c.Begin(lines(1, testModel))
		until(t, "it is there", func() bool { consumer, entry := c.kept(testModel); return consumer && entry })
		c.finish(testModel, daemon)
		until(t, "it is retired", func() bool {
			consumer, entry := c.kept(testModel)
			return !consumer && !entry && one.lane(testModel) == nil && other.lane(testModel) == nil
		})
	}
}

// A model with requests that are not finished stays, though nothing moves.
func TestModelWithWorkIsNotRetired(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(quickRetire)
	daemon := c.daemon()
	c.Begin(lines(1, testModel))
	until(t, "its message is taken", func() bool { return len(c.take(testModel, 1)) == 1 })
	// Another model comes and goes meanwhile.
	c.Begin(lines(1, otherModel))
	c.finish(otherModel, daemon)
	until(t, "the other model is retired", func() bool { consumer, entry := c.kept(otherModel); return !consumer && !entry })
	if consumer, entry := c.kept(testModel); !consumer || !entry {
		t.Errorf("of a model with a claimed request: consumer %v, entry %v", consumer, entry)
	}
}

// Work that comes at whatever moment of a retirement is delivered.
func TestWorkDuringRetirement(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(quickRetire)
	c.start(quickRetire)
	daemon := c.daemon()
	for range 40 {
		c.Begin(lines(1, testModel))
		c.finish(testModel, daemon)
		pause := time.NewTimer(rand.N(120 * time.Millisecond))
		<-pause.C
	}
}

// What a leader leaves that died in the middle of a retirement is mended.
func TestInterruptedRetirement(t *testing.T) {
	t.Parallel()
	for name, interrupted := range map[string]func(*cluster) error{
		"a consumer without an entry": func(c *cluster) error {
			return c.slots().Delete(c.T.Context(), streams.Token(testModel))
		},
		"messages without a consumer": func(c *cluster) error {
			return c.Stream.DeleteConsumer(c.T.Context(), streams.ConsumerName(testModel))
		},
		"messages without either": func(c *cluster) error {
			return errors.Join(c.slots().Delete(c.T.Context(), streams.Token(testModel)),
				c.Stream.DeleteConsumer(c.T.Context(), streams.ConsumerName(testModel)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			_, stop := c.start()
			c.Begin(lines(2, testModel))
			c.queued(2)
			stop()
			if err := interrupted(c); err != nil {
				t.Fatal(err)
			}
			c.start(quickRetire, func(cfg *Config) { cfg.ClaimTimeout = 2 * time.Second })
			until(t, "the model is served again", func() bool { consumer, entry := c.kept(testModel); return consumer && entry })
			daemon := c.daemon()
			for range 2 {
				c.finish(testModel, daemon)
			}
		})
	}
}

// Models that come and go leave nothing behind in the broker.
func TestModelsComeAndGo(t *testing.T) {
	t.Parallel()
	const models = 60
	c := newCluster(t)
	d, _ := c.start(quickRetire)
	many := make([]batch.Model, models)
	for i := range many {
		many[i] = batch.Model(fmt.Sprintf("fine-tune/%d", i))
	}
	id := c.Begin(lines(models, many...))
	c.queued(models)
	if _, err := c.Store.CancelBatch(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := c.Stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, "all are retired", func() bool {
		info, err := c.Stream.Info(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		entries, err := slots.List(t.Context(), c.slots())
		return err == nil && info.State.Consumers == 0 && len(entries) == 0
	})
	until(t, "and their lanes", func() bool { return len(d.models()) == 0 })
}
