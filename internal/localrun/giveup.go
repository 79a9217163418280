package localrun

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/consume"
	"fusillade/internal/postgres"
)

// maxRefused is how many calls in a row may be refused for good before a run is
// given up at once: each costs a request its only attempt.
const maxRefused = 20

// refusedError is returned when the endpoint refuses every call.
type refusedError struct{ consume.Refusal }

func (e *refusedError) Error() string {
	text := fmt.Sprintf("the last %s of model %s ended with: %s", count(e.Calls, "call"), e.Model, e.Cause)
	if e.Message != "" {
		text += fmt.Sprintf(" (%q)", cli.Plain(e.Message))
	}
	return text
}

// advice is what the user can do about it.
func (e *refusedError) advice() string {
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		return "Check the API key (--api-key-env)"
	case http.StatusPaymentRequired, http.StatusTooManyRequests:
		return "Check the quota and the billing of the account"
	case http.StatusNotFound:
		return "Check the name of the model, and the path of --upstream"
	}
	return "Check that the endpoint runs, and --upstream"
}

// giveUp ends a run of which no call can succeed, after the time that the user
// allows for it; 0: never.
func giveUp(after time.Duration, s consume.Stats) error {
	r := s.Refusal
	if after == 0 || r == nil {
		return nil
	}
	if r.Failed >= maxRefused || time.Since(r.Since) >= after {
		return &refusedError{*r}
	}
	return nil
}

// allRefused returns an error if this process got through its requests by
// having every call of it refused.
func allRefused(after time.Duration, s consume.Stats) error {
	if r := s.Refusal; after > 0 && r != nil && s.Completed == 0 && r.Failed > 0 && r.Failed == s.Failed {
		return &refusedError{*r}
	}
	return nil
}

// endRefused returns the batch as it is left, and the error that the run ends
// with. Requests that refusals failed are pending again; a crash before leaves
// them failed, for --rerun-failed.
func endRefused(ctx context.Context, local *app.Local, id batch.ID, e *refusedError) (postgres.Batch, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if e.Failed > 0 {
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
