//go:build chaos

package chaos

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"fusillade/streams"
)

// describe logs what a cluster that failed is left with: requests by their state,
// what the broker has of them, and who holds slots.
func (c *cluster) describe() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rows, err := c.db.Query(ctx, `
SELECT format('%s of %s, %s: %s; claimed %s s ago, started %s s ago, due in %s s', state, model, coalesce(daemon_id::text, 'of nobody'), count(*),
              extract(epoch FROM now() - max(claimed_at))::int, extract(epoch FROM now() - max(started_at))::int, extract(epoch FROM max(due_at) - now())::int)
  FROM requests GROUP BY state, model, daemon_id`)
	if err == nil {
		var live []string
		live, err = pgx.CollectRows(rows, pgx.RowTo[string])
		c.t.Logf("live requests: %q, %v", live, err)
	}
	js, err := jetstream.New(c.conn)
	if err != nil {
		c.t.Log(err)
		return
	}
	for stream := range js.ListStreams(ctx).Info() {
		c.t.Logf("stream %s: %+v, %+v", stream.Config.Name, stream.State, stream.Cluster)
	}
	if stream, err := js.Stream(ctx, streams.Stream); err == nil {
		for consumer := range stream.ListConsumers(ctx).Info() {
			c.t.Logf("consumer %s: delivered %+v, acked %+v, %d await an ack, %d pending, %d wait, %+v", consumer.Name, consumer.Delivered, consumer.AckFloor,
				consumer.NumAckPending, consumer.NumPending, consumer.NumWaiting, consumer.Cluster)
		}
	}
	for _, name := range []string{streams.SlotsBucket, streams.DaemonsBucket} {
		kv, err := js.KeyValue(ctx, name)
		if err != nil {
			c.t.Log(name, err)
			continue
		}
		keys, err := kv.Keys(ctx)
		if err != nil {
			c.t.Log(name, err)
		}
		for _, key := range keys {
			if entry, err := kv.Get(ctx, key); err == nil {
				c.t.Logf("%s %s, revision %d: %s", name, key, entry.Revision(), entry.Value())
			}
		}
	}
}
