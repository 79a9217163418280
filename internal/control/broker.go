package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/streams"
)

// brokerTimeout bounds what follows a commit. It goes on when the caller's
// context ends.
const brokerTimeout = 5 * time.Second

// ErrBrokerUnavailable is returned when the broker does not answer. The same
// call may succeed later.
var ErrBrokerUnavailable = errors.New("the broker does not answer")

// hintCancel purges messages of requests that have finished, and hints that
// their calls are of no use any more.
func (c *Controller) hintCancel(ctx context.Context, id batch.ID, hint []byte, subjects ...func(streams.Shard) string) {
	failpoint.Hit(failpoint.Cancelled)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	err := c.purge(ctx, subjects)
	for _, subject := range streams.HintCancelSubjects(id) {
		err = errors.Join(err, c.cfg.Conn.Publish(subject, hint))
	}
	err = errors.Join(err, c.cfg.Conn.FlushWithContext(ctx)) // the process may exit now
	if err != nil {
		c.cfg.Log.Warn("cancelled requests were not announced to the broker; consumers find out by themselves", "batch_id", id, "err", err)
	}
}

func (c *Controller) purge(ctx context.Context, subjects []func(streams.Shard) string) error {
	if len(subjects) == 0 {
		return nil
	}
	for _, shard := range c.cfg.Shards.All() {
		stream, err := c.js.Stream(ctx, shard.Stream())
		if err != nil {
			return fmt.Errorf("binding stream %s: %w", shard.Stream(), err)
		}
		for _, subject := range subjects {
			if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject(shard))); err != nil {
				return fmt.Errorf("purging messages: %w", err)
			}
		}
	}
	return nil
}

// wake tells dispatchers that there is work.
func (c *Controller) wake() {
	err := c.cfg.Conn.Publish(streams.HintWork, nil)
	if err == nil {
		err = c.cfg.Conn.FlushTimeout(brokerTimeout)
	}
	if err != nil {
		c.cfg.Log.Warn("work was not announced to the dispatchers; they find out by themselves", "err", err)
	}
}
