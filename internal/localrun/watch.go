package localrun

import (
	"context"
	"errors"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const watchInterval = 50 * time.Millisecond

var errDatabaseEnded = errors.New("postgres has ended; see the log in the data directory")

// Watch reads the batch's counters until it has ended, or ctx does. finished is
// the end of the daemon that works on it; each is called with what was read,
// which has no usage, and its error ends the watch.
func Watch(ctx context.Context, local *app.Local, id batch.ID, finished <-chan error, each func(postgres.Batch) error) (b postgres.Batch, err error) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		latest, getErr := local.Store.GetProgress(ctx, id)
		if getErr == nil {
			b = latest
		} else if ctx.Err() == nil && !postgres.Transient(getErr) {
			return b, getErr
		}
		if err := each(b); err != nil {
			return b, err
		}
		if b.Status.Terminal() {
			return b, nil
		}
		select {
		case <-ctx.Done():
			return b, nil
		case <-local.DatabaseEnded():
			return b, errDatabaseEnded
		case err := <-finished:
			return b, errors.Join(errors.New("the daemon ended early"), err)
		case <-tick.C:
		}
	}
}
