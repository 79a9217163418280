package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"fusillade/internal/batch"
	"fusillade/internal/failpoint"
	"fusillade/internal/postgres"
	"fusillade/internal/telemetry"
	"fusillade/streams"
)

// brokerTimeout bounds what follows a commit. It goes on when the caller's
// context ends.
const brokerTimeout = 5 * time.Second

// purgeEach is up to how many single requests have their messages purged one
// by one, each a request to the broker. Those of more are left to be acked.
const purgeEach = 100

// Config says what an Controller works with.
type Config struct {
	Store *postgres.Store
	Conn  *nats.Conn
	// Metrics is where cancelled batches are counted; nil: nowhere.
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Controller changes batches and files at a user's word. It is safe for
// concurrent use.
//
// Its methods return the errors of the store's methods of the same name. They
// return no error of the broker: by then the operation is done, and what is
// missing comes by itself.
type Controller struct {
	cfg Config
	js  jetstream.JetStream

	cancelled prometheus.Counter
}

// New returns an operator. It does not talk to the broker yet.
func New(cfg Config) (*Controller, error) {
	if cfg.Store == nil || cfg.Conn == nil || cfg.Log == nil {
		return nil, errors.New("operate: Store, Conn and Log are required")
	}
	js, err := jetstream.New(cfg.Conn)
	if err != nil {
		return nil, fmt.Errorf("connecting to JetStream: %w", err)
	}
	return &Controller{
		cfg: cfg, js: js,
		cancelled: telemetry.Counter(cfg.Metrics, "batches_cancelled_total", "Batches cancelled through this process's API."),
	}, nil
}

// Cancel cancels a batch: when it returns, every request of it has ended and
// is counted. Calls in flight are aborted soon after.
func (o *Controller) Cancel(ctx context.Context, id batch.ID) (postgres.Batch, error) {
	b, err := o.cfg.Store.CancelBatch(ctx, id)
	if err != nil {
		return b, err
	}
	o.abort(ctx, id)
	return b, nil
}

// CancelRequests cancels single requests of a batch.
func (o *Controller) CancelRequests(ctx context.Context, id batch.ID, lines []int32) (postgres.Lines, error) {
	done, err := o.cfg.Store.CancelRequests(ctx, id, lines)
	if err != nil || len(done.Changed) == 0 {
		return done, err
	}
	var list []byte
	var subjects []string
	for _, line := range done.Changed {
		list = append(strconv.AppendInt(list, int64(line), 10), '\n')
		if len(done.Changed) <= purgeEach {
			subjects = append(subjects, streams.LineSubjects(batch.RequestID{Batch: id, Line: line}))
		}
	}
	o.tell(ctx, id, list[:len(list)-1], subjects...)
	return done, nil
}

// Retry puts requests of a batch that ended in one of the states back to
// pending. It returns how many.
func (o *Controller) Rerun(ctx context.Context, id batch.ID, a batch.Allowance, states ...batch.State) (int, error) {
	n, err := o.cfg.Store.RerunRequests(ctx, id, a, states...)
	if n > 0 { // also before an error
		o.wake()
	}
	return n, err
}

// RerunLines puts single requests of a batch back to pending.
func (o *Controller) RerunLines(ctx context.Context, id batch.ID, a batch.Allowance, lines []int32) (postgres.Lines, error) {
	done, err := o.cfg.Store.RerunLines(ctx, id, a, lines)
	if len(done.Changed) > 0 {
		o.wake()
	}
	return done, err
}

// DeleteBatch deletes a batch, which is cancelled first if it has not ended.
func (o *Controller) DeleteBatch(ctx context.Context, id batch.ID) error {
	cancelled, err := o.cfg.Store.DeleteBatch(ctx, id)
	if err == nil && cancelled {
		o.abort(ctx, id)
	}
	return err
}

// DeleteFile deletes a file. Batches of it that have not ended are cancelled,
// and returned; the results of all of them stay.
func (o *Controller) DeleteFile(ctx context.Context, id batch.FileID) ([]batch.ID, error) {
	cancelled, err := o.cfg.Store.DeleteFile(ctx, id)
	for _, b := range cancelled {
		o.abort(ctx, b)
	}
	return cancelled, err
}

// abort follows the commit of a whole batch's cancel.
func (o *Controller) abort(ctx context.Context, id batch.ID) {
	o.cancelled.Inc()
	o.tell(ctx, id, nil, streams.BatchSubjects(id))
}

// tell purges messages of requests that have ended, and hints that their calls
// are in vain.
func (o *Controller) tell(ctx context.Context, id batch.ID, hint []byte, subjects ...string) {
	failpoint.Hit(failpoint.Cancelled)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), brokerTimeout)
	defer cancel()
	err := o.purge(ctx, subjects)
	for _, subject := range streams.HintCancelSubjects(id) {
		err = errors.Join(err, o.cfg.Conn.Publish(subject, hint))
	}
	err = errors.Join(err, o.cfg.Conn.FlushWithContext(ctx)) // the process may exit now
	if err != nil {
		o.cfg.Log.Warn("telling the broker of cancelled requests; it finds out by itself", "batch_id", id, "err", err)
	}
}

func (o *Controller) purge(ctx context.Context, subjects []string) error {
	if len(subjects) == 0 {
		return nil
	}
	stream, err := o.js.Stream(ctx, streams.Stream)
	if err != nil {
		return fmt.Errorf("binding stream %s: %w", streams.Stream, err)
	}
	for _, subject := range subjects {
		if err := stream.Purge(ctx, jetstream.WithPurgeSubject(subject)); err != nil {
			return fmt.Errorf("purging messages: %w", err)
		}
	}
	return nil
}

// wake tells dispatchers that there is work.
func (o *Controller) wake() {
	err := o.cfg.Conn.Publish(streams.HintWork, nil)
	if err == nil {
		err = o.cfg.Conn.FlushTimeout(brokerTimeout)
	}
	if err != nil {
		o.cfg.Log.Warn("telling dispatchers of work; they find out by themselves", "err", err)
	}
}
