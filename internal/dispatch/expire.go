package dispatch

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
	"fusillade/streams"
)

// expiryPage is the most batches that one look expires.
const expiryPage = 100

// expire finishes what is left of batches whose deadline has passed. A crash after
// a commit leaves messages of requests that have finished, and nobody is told;
// a consumer that receives one of the messages acks it, and one that holds a
// request of the batch finds out by its poll.
func (d *Dispatcher) expire(ctx context.Context) {
	grace := max(-*d.cfg.StopBeforeDeadline, 0)
	loop := d.cfg.Watch.Step("expiring batches")
	defer loop.End()
	for ctx.Err() == nil {
		loop.Busy()
		began := time.Now()
		expired, err := d.cfg.Store.ExpireBatches(ctx, grace, expiryPage)
		for _, e := range expired {
			d.cfg.Log.Info("batch expired", "batch_id", e.Batch, "requests", e.Requests, "finished", e.Finished)
			d.traceExpiry(ctx, began, e)
			d.dropEnded(ctx, e)
		}
		if err != nil {
			if ctx.Err() == nil {
				d.cfg.Log.Warn("batches could not be expired", "err", err)
			}
			return
		}
		if len(expired) < expiryPage {
			return
		}
	}
}

// dropEnded takes what ended off the stream, and tells consumers. Requests that are
// being called still need their messages.
func (d *Dispatcher) dropEnded(ctx context.Context, e postgres.EndedBatch) {
	if e.Finished {
		d.purgeMessages(ctx, e.Batch)
	}
	d.hintEnded(e.Batch)
}

// hintEnded tells consumers that requests of the batch have finished, after the
// commit that says so. A hint that is lost costs them a poll's interval.
func (d *Dispatcher) hintEnded(id batch.ID) {
	for _, subject := range streams.HintCancelSubjects(id) {
		if err := d.cfg.Conn.Publish(subject, nil); err != nil {
			d.cfg.Log.Debug("hint was not sent", "subject", subject, "err", err)
		}
	}
}

// purgeMessages takes what is left of a batch that has ended off the stream. It
// reports whether nothing is left.
func (d *Dispatcher) purgeMessages(ctx context.Context, id batch.ID) bool {
	ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
	defer cancel()
	var err error
	for i, stream := range d.streams {
		err = errors.Join(err, stream.Purge(ctx, jetstream.WithPurgeSubject(streams.Shard(i).BatchSubjects(id))))
	}
	if err != nil {
		d.cfg.Log.Warn("messages could not be purged", "batch_id", id, "err", err)
	}
	return err == nil
}
