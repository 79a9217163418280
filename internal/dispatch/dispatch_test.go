package dispatch

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/streams"
)

// A message says which request it stands for, and nothing of what it asks.
func TestMessage(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) {
		cfg.MetadataFields = []string{"id", "completion_window", "created_by", "cancelling_at", "team", "absent"}
	})
	id := c.Begin(lines(1, testModel), func(n *postgres.NewBatch) { n.Metadata = map[string]string{"team": "red\r\nEvil: 1", "private": "x"} })
	c.queued(1)
	request := batch.RequestID{Batch: id, Line: 1}
	msg, err := c.Stream.GetLastMsgForSubject(t.Context(), streams.Shard(0).RequestSubject(testModel, request))
	if err != nil {
		t.Fatal(err)
	}
	if len(msg.Data) != 0 {
		t.Errorf("the message has a body of %d bytes", len(msg.Data))
	}
	b, err := c.Store.GetBatch(t.Context(), id, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"Nats-Sequence", "Nats-Stream", "Nats-Subject", "Nats-Time-Stamp"} {
		msg.Header.Del(name) // the server's, of a message that is read and not delivered
	}
	want := nats.Header{
		streams.HeaderRequestID:               {request.String()},
		streams.HeaderModel:                   {string(testModel)},
		streams.HeaderClaim:                   {"1"},
		streams.HeaderAttempt:                 {"0"},
		streams.HeaderDeadline:                {b.ExpiresAt.UTC().Format("2006-01-02T15:04:05.000000Z")},
		"x-fusillade-batch-id":                {id.String()},
		"x-fusillade-batch-completion-window": {"24h"},
		"x-fusillade-batch-created-by":        {"tester"},
		"x-fusillade-batch-team":              {"red  Evil: 1"},
	}
	if diff := cmp.Diff(want, msg.Header); diff != "" {
		t.Errorf("headers (-want +got):\n%s", diff)
	}
}

// Without a poll: work is found by its hint, the window is filled and no more,
// and refilled as it drains, until each line has come once.
func TestWindowIsKeptFilled(t *testing.T) {
	t.Parallel()
	const n, limit = 120, 8
	for _, dispatchers := range []int{1, 3} {
		c := newCluster(t)
		for range dispatchers {
			c.start(func(cfg *Config) { cfg.Limits = map[batch.Model]batch.Limit{testModel: limit}; cfg.ClaimBatchSize = 3 })
		}
		id := c.Begin(lines(n, testModel))
		if dispatchers == 1 {
			c.queued(limit + minDepth)
		}
		seen := make(map[string]bool)
		until(t, "each line has come", func() bool {
			for _, msg := range c.take(testModel, limit) {
				if seen[msg.Subject()] {
					t.Errorf("%s came twice", msg.Subject())
				}
				seen[msg.Subject()] = true
			}
			return len(seen) == n
		})
		if again := c.Count(`SELECT count(*) FROM requests WHERE batch_id = $1 AND claim <> 1`, [16]byte(id)); again != 0 {
			t.Errorf("%d requests were claimed more than once", again)
		}
	}
}

// What is urgent is published next, whatever waits for the same model.
func TestMostUrgentFirst(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) { cfg.DefaultLimit = 1 })
	c.Begin(lines(50, testModel))
	c.queued(1 + minDepth)
	urgent := c.Begin(lines(5, testModel), func(n *postgres.NewBatch) { n.CompletionWindow = time.Hour })
	until(t, "the cursors are known", func() bool { // a survey after the hint
		return len(c.take(testModel, 1)) == 1
	})
	first := make(map[string]bool)
	published := 0
	until(t, "the urgent batch is published", func() bool {
		for _, msg := range c.take(testModel, 1) {
			_, id, err := streams.ParseRequestSubject(msg.Subject())
			if err != nil {
				t.Fatal(err)
			}
			published++
			first[id.Batch.Token()] = true
		}
		return first[urgent.Token()]
	})
	if published > 3*(1+minDepth) {
		t.Errorf("%d messages came before the first of the urgent batch", published)
	}
}

// A message of an earlier claim makes way; one of this claim is as good as a
// new one; one of a later claim belongs to the daemon that has the request now.
func TestSubjectIsTaken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		claim    string
		replaced bool
	}{
		"of an earlier claim": {"0", true},
		"without a claim":     {"", true},
		"of this claim":       {"1", false},
		"of a later claim":    {"7", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			id := batch.RequestID{Batch: c.Begin(lines(2, testModel)), Line: 2}
			old := nats.NewMsg(streams.Shard(0).RequestSubject(testModel, id))
			old.Header.Set(streams.HeaderClaim, tt.claim)
			ack, err := c.JS.PublishMsg(t.Context(), old)
			if err != nil {
				t.Fatal(err)
			}
			want := "1"
			if !tt.replaced {
				want = tt.claim
			}
			_, stop := c.start()
			until(t, "the request is published", func() bool {
				msg, err := c.Stream.GetLastMsgForSubject(t.Context(), old.Subject)
				return err == nil && msg.Header.Get(streams.HeaderClaim) == want && c.state().Msgs == 2
			})
			stop()
			msg, err := c.Stream.GetLastMsgForSubject(t.Context(), old.Subject)
			if err != nil {
				t.Fatal(err)
			}
			if replaced := msg.Sequence != ack.Sequence; replaced != tt.replaced {
				t.Errorf("the message was replaced: %t, want %t", replaced, tt.replaced)
			}
			if n := c.Count(`SELECT count(*) FROM requests WHERE state = 'claimed' AND claim = 1`); n != 2 {
				t.Errorf("%d requests are claimed, want 2", n)
			}
		})
	}
}

// What the stream refuses returns to pending and is published once the stream
// takes it, without a poll to find it.
func TestStreamRefuses(t *testing.T) {
	t.Parallel()
	const n = 5
	c := newCluster(t)
	cfg := c.Stream.CachedInfo().Config
	cfg.MaxMsgs = 2
	c.update(cfg)
	c.start()
	c.Begin(lines(n, testModel))
	until(t, "the others are pending", func() bool {
		return c.Count(`SELECT count(*) FROM requests WHERE state = 'pending' AND due_at IS NOT NULL`) == n-2
	})
	cfg.MaxMsgs = -1
	c.update(cfg)
	c.queued(n)
	until(t, "all are claimed", func() bool { return c.Count(`SELECT count(*) FROM requests WHERE state = 'claimed'`) == n })
}

func (c *cluster) update(cfg jetstream.StreamConfig) {
	c.T.Helper()
	if _, err := c.JS.UpdateStream(c.T.Context(), cfg); err != nil {
		c.T.Fatal(err)
	}
}

// A dispatcher that is told to stop leaves nothing claimed without a message,
// and another goes on at once.
func TestStop(t *testing.T) {
	t.Parallel()
	const n = 300
	c := newCluster(t)
	many := func(cfg *Config) { cfg.DefaultLimit = n; cfg.ClaimBatchSize = 7 }
	_, stop := c.start(many)
	id := c.Begin(lines(n, testModel))
	until(t, "some are published", func() bool { return c.state().Msgs > 0 })
	stop()
	claimed := c.Count(`SELECT count(*) FROM requests WHERE state = 'claimed'`)
	if msgs := c.state().Msgs; msgs != uint64(claimed) {
		t.Errorf("%d requests are claimed and %d messages are queued", claimed, msgs)
	}
	c.start(many)
	c.queued(n)
	if n := c.Count(`SELECT count(*) FROM requests WHERE batch_id = $1 AND claim > 2`, [16]byte(id)); n > 0 {
		t.Errorf("%d requests were claimed more than twice", n)
	}
}

// An automatic limit is what its entry says: the window follows it, and the stream's
// guard is that of its upper bound.
func TestAutomaticLimitOfTheWindow(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) {
		cfg.Limits, cfg.ClaimInterval = map[batch.Model]batch.Limit{testModel: batch.AutoLimit(2, 50)}, 200*time.Millisecond
	})
	c.Begin(lines(500, testModel))
	kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	entry := func() slots.Entry {
		entries, err := slots.List(t.Context(), kv)
		if err != nil {
			t.Fatal(err)
		}
		return entries[testModel]
	}
	until(t, "the entry is made", func() bool { return entry().Auto != nil })
	if got := entry(); got.Limit != 4 || got.Auto.Least != 2 || got.Auto.Most != 50 {
		t.Errorf("limit %d, auto %+v", got.Limit, got.Auto)
	}
	until(t, "the guard is that of the upper bound", func() bool {
		consumer, err := c.Stream.Consumer(t.Context(), streams.ConsumerName(testModel))
		return err == nil && consumer.CachedInfo().Config.MaxAckPending == streams.MaxAckPending(50)
	})
	few := c.queuedNow()
	decided := entry()
	decided.Limit = 40
	raw, err := json.Marshal(decided)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(t.Context(), streams.Token(testModel), raw); err != nil {
		t.Fatal(err)
	}
	until(t, "the window follows", func() bool { return c.queuedNow() >= 40 })
	if few >= 40 {
		t.Errorf("%d were published for a limit of 4", few)
	}
}

// queuedNow is how many messages the stream has.
func (c *cluster) queuedNow() int {
	c.T.Helper()
	info, err := c.Stream.Info(c.T.Context())
	if err != nil {
		c.T.Fatal(err)
	}
	return int(info.State.Msgs)
}

// A limit that operators set is in force for slots and the stream without a
// poll, and so is its removal.
func TestLimitsChange(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start(func(cfg *Config) { cfg.Limits = map[batch.Model]batch.Limit{testModel: 3} })
	c.Begin(lines(500, testModel, otherModel))
	kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	inForce := func(m batch.Model, limit int) {
		t.Helper()
		until(t, "the limit is in force", func() bool {
			entries, err := slots.List(t.Context(), kv)
			if err != nil {
				t.Fatal(err)
			}
			c.take(m, 1)
			consumer, err := c.Stream.Consumer(t.Context(), streams.ConsumerName(m))
			return err == nil && entries[m].Limit == limit && consumer.CachedInfo().Config.MaxAckPending == streams.MaxAckPending(limit)
		})
	}
	inForce(testModel, 3)
	inForce(otherModel, 4)
	for _, change := range []struct {
		set  batch.Limit
		want int
	}{{17, 17}, {2, 2}, {0, 3}} {
		if err := c.Store.ChangeModel(t.Context(), testModel, postgres.ModelChange{Limit: &change.set}); err != nil {
			t.Fatal(err)
		}
		c.Hint(streams.HintWork)
		inForce(testModel, change.want)
	}
	inForce(otherModel, 4)
}

// A hint that comes to a dispatcher that does not know the model yet, though
// it has work, is not lost.
func TestHintOfAnUnknownModel(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	d, stop := c.start()
	stop()
	d.drained(nats.NewMsg(streams.HintDrained(testModel)))
	select {
	case <-d.work.C():
	default:
		t.Error("the dispatcher does not look for the model's work")
	}
	d.drained(nats.NewMsg("fusillade.hints.drained.=zz"))
	select {
	case <-d.work.C():
		t.Error("a malformed hint has an effect")
	default:
	}
}

// A dispatcher that is stopping leaves the hints to the others.
func TestHintsDuringAStop(t *testing.T) {
	t.Parallel()
	const n, limit = 60, 2
	c := newCluster(t)
	var stops []func()
	for range 4 {
		_, stop := c.start(func(cfg *Config) { cfg.DefaultLimit = limit })
		stops = append(stops, stop)
	}
	c.Begin(lines(n, testModel))
	seen := 0
	var stopping sync.WaitGroup
	defer stopping.Wait()
	// No poll comes within an hour: what is lost with a dispatcher that stops is
	// missed by the others until then.
	until(t, "each line has come, by hints alone", func() bool {
		seen += len(c.take(testModel, 1))
		if len(stops) > 1 && seen > n/5*(5-len(stops)) {
			stopping.Go(stops[0])
			stops = stops[1:]
		}
		return seen == n
	})
}

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	good := Config{
		Store: new(postgres.Store), Conn: new(nats.Conn), Log: discard(), ClaimBatchSize: 1, DefaultLimit: 1,
		ClaimInterval: 1, Lease: 1, ClaimTimeout: 1, ProcessingTimeout: 1, StaleThreshold: 1,
	}
	if err := good.validate(); err != nil {
		t.Errorf("all that is required: %v", err)
	}
	for want, spoil := range map[string]func(*Config){
		"Store": func(c *Config) { c.Store = nil }, "Conn": func(c *Config) { c.Conn = nil }, "Log": func(c *Config) { c.Log = nil },
		"ClaimBatchSize": func(c *Config) { c.ClaimBatchSize = 0 }, "DefaultLimit": func(c *Config) { c.DefaultLimit = 0 },
		"Purge.Rows":        func(c *Config) { c.Purge.Interval = 1 },
		"ClaimInterval":     func(c *Config) { c.ClaimInterval = 0 },
		"Lease":             func(c *Config) { c.Lease = 0 },
		"ClaimTimeout":      func(c *Config) { c.ClaimTimeout = 0 },
		"ProcessingTimeout": func(c *Config) { c.ProcessingTimeout = 0 },
		"StaleThreshold":    func(c *Config) { c.StaleThreshold = -1 },
	} {
		cfg := good
		spoil(&cfg)
		if _, err := New(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error that names %s", err, want)
		}
	}
}
