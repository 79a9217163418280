package consume

import (
	"testing"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/dispatch"
	"fusillade/internal/testenv"
	"fusillade/streams"
)

// What comes for a pull that another one has replaced belongs to its pool all the
// same: the broker has leased it.
func TestLateDelivery(t *testing.T) {
	c, in := newInbox(t)
	tray := in.open(testModel)
	given, reply := in.begin(tray)
	next, _ := in.begin(tray)
	c.Begin(lines(3, testModel))
	c.ask(t, in, reply, 10)
	var arrived []arrival
	until(t, "all messages are here", func() bool {
		more, said := tray.take(next)
		if said.pull == given {
			t.Errorf("the pull that was given up said %+v", said)
		}
		arrived = append(arrived, more...)
		return len(arrived) == 3
	})
	in.shut(testModel, tray)
}

// What waits for a pool that closes, and what comes for one that has closed, is the
// next consumer's at once, not when its lease ends.
func TestDeliveryAfterClose(t *testing.T) {
	for name, closesFirst := range map[string]bool{"waiting": false, "late": true} {
		t.Run(name, func(t *testing.T) {
			c, in := newInbox(t)
			tray := in.open(testModel)
			_, reply := in.begin(tray)
			if closesFirst {
				in.shut(testModel, tray)
			}
			c.Begin(lines(3, testModel))
			c.ask(t, in, reply, 3)
			if !closesFirst {
				until(t, "all messages wait", func() bool {
					tray.mu.Lock()
					defer tray.mu.Unlock()
					return len(tray.messages) == 3
				})
				in.shut(testModel, tray)
			}
			other := c.openInbox(t)
			after := other.open(testModel)
			pull, reply := other.begin(after)
			c.ask(t, other, reply, 10)
			again := make(map[batch.RequestID]bool)
			until(t, "all messages are with the other consumer", func() bool {
				arrived, _ := after.take(pull)
				for _, a := range arrived {
					again[a.id] = true
				}
				return len(again) == 3
			})
			other.shut(testModel, after)
		})
	}
}

// newInbox opens an inbox without a consumer that reads from it. Leases are longer
// than a test waits, so what comes again was released.
func newInbox(t *testing.T) (*cluster, *inbox) {
	t.Helper()
	c := newCluster(t, func(cfg *dispatch.Config) { cfg.Lease = never })
	return c, c.openInbox(t)
}

func (c *cluster) openInbox(t *testing.T) *inbox {
	t.Helper()
	in, err := openInbox(&Consumer{cfg: Config{Conn: testenv.Connect(t, c.Broker), Log: testenv.Logger(t)}, metrics: newMetrics(nil)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(in.close)
	return in
}

// ask pulls as soon as the model has a consumer in the stream.
func (c *cluster) ask(t *testing.T, in *inbox, reply string, n int) {
	t.Helper()
	stream := streams.Shards(1).Of(testModel).Stream()
	until(t, "the model has a consumer", func() bool {
		_, err := c.JS.Consumer(t.Context(), stream, streams.ConsumerName(testModel))
		return err == nil
	})
	pull := streams.Pull{Batch: n, Expires: time.Minute}
	if err := in.c.cfg.Conn.PublishRequest(streams.PullSubject(stream, testModel), reply, pull.Encode()); err != nil {
		t.Fatal(err)
	}
}
