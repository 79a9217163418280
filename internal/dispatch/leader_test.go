package dispatch

import (
	"log/slog"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/internal/slots"
	"fusillade/internal/testenv/programs"
	"fusillade/streams"
)

// message is one as dispatchers publish it.
func message(id batch.RequestID, claim string) *nats.Msg {
	msg := nats.NewMsg(streams.Shard(0).RequestSubject(testModel, id))
	msg.Header.Set(streams.HeaderClaim, claim)
	return msg
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// quickSweep looks after claims that are older than a busy machine takes to
// publish one.
func quickSweep(cfg *Config) { cfg.ClaimTimeout = 2 * time.Second }

// Claimed requests whose messages were never published, or are of another
// claim, are published; what has its message is left alone.
func TestSweepAfterACrash(t *testing.T) {
	t.Parallel()
	const n = 3
	c := newCluster(t)
	id := c.Begin(lines(n, testModel))
	claimed, err := c.Store.Claim(t.Context(), testModel, []postgres.Quota{{Batch: id, N: n}})
	if err != nil {
		t.Fatal(err)
	}
	for i, claim := range []string{"1", "99"} { // and none for the last
		msg := message(claimed[i].ID, claim)
		if _, err := c.JS.PublishMsg(t.Context(), msg); err != nil {
			t.Fatal(err)
		}
	}
	c.start(quickSweep)
	until(t, "all have messages of their claims", func() bool {
		for i, claim := range []string{"1", "2", "2"} {
			msg, err := c.Stream.GetLastMsgForSubject(t.Context(), streams.Shard(0).RequestSubject(testModel, claimed[i].ID))
			if err != nil || msg.Header.Get(streams.HeaderClaim) != claim {
				return false
			}
		}
		return true
	})
	for i, claim := range []int64{1, 2, 2} {
		if got := c.Count(`SELECT claim FROM requests WHERE line = $1`, claimed[i].ID.Line); got != claim {
			t.Errorf("request %d is at claim %d, want %d", i, got, claim)
		}
	}
}

// The setting that bounds what is taken back at once bounds a page of the sweep too.
func TestSweepGoesInPages(t *testing.T) {
	t.Parallel()
	const n, page = 7, 3
	c := newCluster(t)
	id := c.Begin(lines(n, testModel))
	if _, err := c.Store.Claim(t.Context(), testModel, []postgres.Quota{{Batch: id, N: n}}); err != nil {
		t.Fatal(err)
	}
	var log programs.Output
	c.start(quickSweep, func(cfg *Config) {
		cfg.ReclaimBatchSize, cfg.Log = page, slog.New(slog.NewJSONHandler(&log, nil))
	})
	sizes := regexp.MustCompile(`"requests without a message return to pending","requests":(\d+)`)
	until(t, "all are taken back", func() bool {
		sum := 0
		for _, found := range sizes.FindAllStringSubmatch(log.String(), -1) {
			size, _ := strconv.Atoi(found[1])
			if sum += size; size > page {
				t.Fatalf("%d requests are taken back at once, want at most %d", size, page)
			}
		}
		return sum >= n
	})
}

// The stream loses its messages, or is lost itself: everything comes back.
func TestStreamIsWiped(t *testing.T) {
	t.Parallel()
	const n = 40
	for name, wipe := range map[string]func(c *cluster) error{
		"purged": func(c *cluster) error { return c.Stream.Purge(c.T.Context()) },
		"lost": func(c *cluster) error {
			return c.JS.DeleteStream(c.T.Context(), streams.Stream)
		},
		"lost with the slots": func(c *cluster) error {
			err := c.JS.DeleteStream(c.T.Context(), streams.Stream)
			if err == nil {
				err = c.JS.DeleteKeyValue(c.T.Context(), streams.SlotsBucket)
			}
			return err
		},
		"the slots alone": func(c *cluster) error {
			return c.JS.DeleteKeyValue(c.T.Context(), streams.SlotsBucket)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t)
			c.start(quickSweep, func(cfg *Config) { cfg.ClaimInterval = 100 * time.Millisecond })
			id := c.Begin(lines(n, testModel))
			until(t, "the window is full", func() bool { return c.state().Msgs >= 4 })
			if err := wipe(c); err != nil {
				t.Fatal(err)
			}
			seen := make(map[string]bool)
			until(t, "each line has come", func() bool {
				for _, msg := range c.take(testModel, 4, c.end) {
					seen[msg.Subject()] = true
				}
				return len(seen) == n
			})
			until(t, "consumers see the model", func() bool {
				kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
				if err != nil {
					return false
				}
				entries, err := slots.List(t.Context(), kv)
				return err == nil && entries[testModel].Limit == 4
			})
			if left := c.Count(`SELECT count(*) FROM cursors WHERE batch_id = $1 AND open`, [16]byte(id)); left != 0 {
				t.Errorf("%d cursors are open", left)
			}
		})
	}
}

// A single server that restarts has lost its consumers, and what it has delivered
// is delivered again, counted anew. Nobody waits for the sweep.
func TestConsumersAreLost(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	daemon := c.daemon()
	c.Begin(lines(2, testModel)) // no more than the window, so that no lane looks at it again
	c.queued(2)
	// One was started, failed, and waits for its next try.
	for _, msg := range c.fetch(testModel, 1) {
		d, verdict := c.startOne(msg, daemon)
		back := postgres.Release{Delivery: d, Retry: true, Delay: time.Millisecond, Reason: batch.NetworkError}
		written, err := c.Store.Finish(t.Context(), daemon, nil, []postgres.Release{back})
		if err != nil || verdict != postgres.Started || !written[d.ID] {
			t.Fatal(verdict, written, err)
		}
	}
	if err := c.Stream.DeleteConsumer(t.Context(), streams.ConsumerName(testModel)); err != nil {
		t.Fatal(err)
	}
	ended := 0
	until(t, "both requests have finished", func() bool {
		for _, msg := range c.fetch(testModel, 2) {
			var err error
			switch d, verdict := c.startOne(msg, daemon); verdict {
			case postgres.Started:
				done := postgres.Completion{Delivery: d, State: batch.Completed, Attempts: 1, StatusCode: 200, Body: []byte("{}")}
				if _, err := c.Store.Finish(t.Context(), daemon, []postgres.Completion{done}, nil); err != nil {
					t.Fatal(err)
				}
				ended++
				err = msg.Ack()
			case postgres.Stale:
				t.Fatal("a message that is waited for was taken for stale")
			default:
				err = msg.Nak()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return ended == 2
	})
}

// Who lived when the slots were lost may still make calls: slots of the new
// bucket are given out only when it has had the time to say so.
func TestNewSlotsWaitForCallsInFlight(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.start()
	c.Begin(lines(1, testModel))
	c.daemon()
	entry := func() slots.Entry {
		kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
		if err != nil {
			return slots.Entry{}
		}
		entries, err := slots.List(t.Context(), kv)
		if err != nil {
			return slots.Entry{}
		}
		return entries[testModel]
	}
	until(t, "slots are given out", func() bool { return entry().Limit == 4 })
	if err := c.JS.DeleteKeyValue(t.Context(), streams.SlotsBucket); err != nil {
		t.Fatal(err)
	}
	until(t, "slots are given out again", func() bool { return entry().Limit == 4 })
	kv, err := c.JS.KeyValue(t.Context(), streams.SlotsBucket)
	if err != nil {
		t.Fatal(err)
	}
	written, err := kv.Get(t.Context(), streams.Token(testModel))
	if err != nil {
		t.Fatal(err)
	}
	status, err := kv.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	created := status.(*jetstream.KeyValueBucketStatus).StreamInfo().Created
	if after := written.Created().Sub(created); after < slots.RestoredAfter {
		t.Errorf("slots were given out %v after the bucket was made, want at least %v", after, slots.RestoredAfter)
	}
}

// end starts and completes the request of a message, as a consumer does. A
// stale message changes nothing.
func (c *cluster) end(msg jetstream.Msg) {
	ctx := c.T.Context()
	_, id, err := streams.ParseRequestSubject(msg.Subject())
	if err != nil {
		c.T.Fatal(err)
	}
	claim, err := strconv.Atoi(msg.Headers().Get(streams.HeaderClaim))
	if err != nil {
		c.T.Fatal(err)
	}
	d, delivery := c.daemon(), postgres.Delivery{ID: id, Claim: claim, Number: 1}
	starts, err := c.Store.Start(ctx, postgres.StartRules{Daemon: d, ProcessingTimeout: never, StaleThreshold: never}, []postgres.Delivery{delivery})
	if err != nil {
		c.T.Fatal(err)
	}
	if starts[0].Verdict != postgres.Started {
		return
	}
	completion := postgres.Completion{Delivery: delivery, State: batch.Completed, Attempts: 1, StatusCode: 200}
	if _, err := c.Store.Finish(ctx, d, []postgres.Completion{completion}, nil); err != nil {
		c.T.Fatal(err)
	}
}

// Requests whose daemon died are taken back, whether or not their messages are
// lost; those of a daemon that lives are left to it.
func TestSweepOfTheDead(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	c.Begin(lines(3, testModel))
	_, stop := c.start()
	c.queued(3)
	stop()
	alive, dead := c.daemon(), c.daemon()
	c.Exec(`UPDATE requests SET state = 'processing', started_at = now(), delivery = 1, daemon_id = CASE line WHEN 1 THEN $1::uuid ELSE $2 END`,
		[16]byte(alive), [16]byte(dead))
	if err := c.Store.EndDaemon(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	id := batch.ID{}
	if err := c.DB.QueryRow(t.Context(), `SELECT id FROM batches`).Scan((*[16]byte)(&id)); err != nil {
		t.Fatal(err)
	}
	for _, line := range []int32{1, 2} { // their messages are lost, that of the third is not
		msg, err := c.Stream.GetLastMsgForSubject(t.Context(), streams.Shard(0).RequestSubject(testModel, batch.RequestID{Batch: id, Line: line}))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Stream.DeleteMsg(t.Context(), msg.Sequence); err != nil {
			t.Fatal(err)
		}
	}
	c.start(quickSweep)
	until(t, "those of the dead are published", func() bool {
		return c.Count(`SELECT count(*) FROM requests WHERE claim = 2 AND line <> 1`) == 2 && c.state().Msgs == 2
	})
	if left := c.Count(`SELECT count(*) FROM requests WHERE state = 'processing' AND claim = 1 AND line = 1`); left != 1 {
		t.Error("the request of the daemon that lives was taken from it")
	}
}

func (c *cluster) daemon() batch.DaemonID {
	c.T.Helper()
	id := postgres.NewDaemonID()
	if err := c.Store.RegisterDaemon(c.T.Context(), postgres.Daemon{ID: id, Role: "consumer", Hostname: "h", PID: 1, Version: "test"}); err != nil {
		c.T.Fatal(err)
	}
	return id
}

// When the leader ends, another dispatcher does its work.
func TestLeaderEnds(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	_, stop := c.start(quickSweep)
	until(t, "it leads", func() bool {
		return c.Count(`SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`) == 1
	})
	c.start(quickSweep)
	stop()
	id := c.Begin(lines(1, testModel))
	c.queued(1)
	if err := c.Stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	c.queued(1)
	if claim := c.Count(`SELECT claim FROM requests WHERE batch_id = $1`, [16]byte(id)); claim != 2 {
		t.Errorf("the request is at claim %d, want 2", claim)
	}
}
