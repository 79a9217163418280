package localrun

import (
	"context"
	"fmt"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/consume"
	"fusillade/internal/postgres"
)

// refusedError is returned when the endpoint refuses every call.
type refusedError struct {
	consume.Refusal
	failed int64 // requests, of all models
}

func (e *refusedError) Error() string {
	text := fmt.Sprintf("%s: the last %s of model %s ended with: %s", e.Kind.Info().Text, cli.Count(e.Calls, "call"), e.Model, e.Cause)
	if e.Message != "" {
		text += fmt.Sprintf(" (%q)", cli.Plain(e.Message))
	}
	return text
}

// advice is what the user can do about it.
func (e *refusedError) advice() string {
	flag := map[batch.RefusalCause]string{
		batch.CauseUnauthorized: " (--api-key-env)", batch.CauseForbidden: " (--api-key-env)",
		batch.CauseConnectionRefused: " (--upstream)", batch.CauseUnreachable: " (--upstream)", batch.CauseNoSuchHost: " (--upstream)",
		batch.CauseBadCertificate: " (--upstream)", batch.CauseNoTLS: " (--upstream)", batch.CauseNoEndpoint: " (--upstream)",
		batch.CauseNotFound: " (--upstream)",
	}
	return e.Kind.Info().Advice + flag[e.Kind]
}

// refusedLook is how often is looked whether other models have work left.
const refusedLook = time.Second

// giveUpRule ends a run of which no call can succeed, after the time that the user
// allows for it.
type giveUpRule struct {
	after  time.Duration // 0: never
	looked time.Time
	// only reports whether nothing but these models is left.
	only func([]batch.Model) (bool, error)
}

// giveUp returns an error if all that is left was refused for long enough. Models
// that are not refused are finished first.
func (r *giveUpRule) giveUp(s consume.Stats) error {
	var refused []batch.Model
	for _, of := range s.Refusals {
		if time.Since(of.Since) >= r.after {
			refused = append(refused, of.Model)
		}
	}
	if r.after == 0 || len(refused) == 0 || time.Since(r.looked) < refusedLook {
		return nil
	}
	r.looked = time.Now()
	if only, err := r.only(refused); err != nil || !only {
		return nil // the database is away, or there is more to do
	}
	return &refusedError{s.Refusals[0], failedOf(s)}
}

func failedOf(s consume.Stats) (failed int64) {
	for _, of := range s.Refusals {
		failed += of.Failed
	}
	return failed
}

// allRefused returns an error if this process got through its requests by
// having every call of it refused.
func allRefused(after time.Duration, s consume.Stats) error {
	if failed := failedOf(s); after > 0 && s.Completed == 0 && failed > 0 && failed == s.Failed {
		return &refusedError{s.Refusals[0], failed}
	}
	return nil
}

// endRefused returns the batch as it is left, and the error that the run ends
// with. Requests that refusals failed are pending again; a crash before leaves
// them failed, for --rerun-failed.
func endRefused(ctx context.Context, local *app.Local, id batch.ID, e *refusedError) (postgres.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if e.failed > 0 {
		if _, err := local.Store.RerunRequests(ctx, id, batch.Allowance{}, batch.Failed); err != nil {
			return postgres.Batch{}, err
		}
	}
	b, err := local.Store.GetBatch(ctx, id, nil)
	if err != nil {
		return b, err
	}
	return b, &cli.ExitError{Code: cli.ExitEndpoint, Err: fmt.Errorf("%w. %s, and run the same command again: it goes on, with %d of %d requests completed",
		e, e.advice(), b.Counts.Completed, b.Counts.Total)}
}
