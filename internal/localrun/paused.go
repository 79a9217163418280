package localrun

import (
	"context"
	"fmt"
	"strings"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/postgres"
)

// pausedRule ends a run of which only requests of paused models are left: nobody else
// works on the database meanwhile, so nobody resumes them.
type pausedRule struct {
	models []batch.Model
	looked time.Time
	only   func([]batch.Model) (bool, error) // as that of a giveUpRule
}

// pausedModels names the models of the batch that are paused, or resumes them if that
// was asked for.
func pausedModels(ctx context.Context, t *cli.Terminal, store *postgres.Store, id batch.ID, resume bool) (paused []batch.Model, err error) {
	work, err := store.BatchWork(ctx, id)
	if err != nil {
		return nil, err
	}
	settings, err := store.ModelSettings(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range work.Models {
		if settings[m].Paused {
			paused = append(paused, m)
		}
	}
	switch {
	case len(paused) == 0:
	case !resume:
		t.Notef("%s, and requests for it are not called; with --resume-models they are", arePaused(paused))
	default:
		off := false
		for _, m := range paused {
			if err := store.ChangeModel(ctx, m, postgres.ModelChange{Paused: &off}); err != nil {
				return nil, err
			}
			t.Notef("model %s was paused, and is resumed", cli.Plain(string(m)))
		}
		paused = nil
	}
	return paused, nil
}

// arePaused names up to three models.
func arePaused(models []batch.Model) string {
	const named = 3
	var names []string
	for _, m := range models[:min(len(models), named)] {
		names = append(names, cli.Plain(string(m)))
	}
	if more := len(models) - named; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	if len(models) == 1 {
		return "model " + names[0] + " is paused"
	}
	return "models " + strings.Join(names, ", ") + " are paused"
}

// end returns an error if nothing is left that may be called.
func (r *pausedRule) end(b postgres.Batch, inFlight int) error {
	if len(r.models) == 0 || inFlight > 0 || time.Since(r.looked) < refusedLook {
		return nil
	}
	r.looked = time.Now()
	if only, err := r.only(r.models); err != nil || !only {
		return nil // the database is away, or there is more to do
	}
	return fmt.Errorf("%s, and only such requests are left, with %d of %d done: run the same command again with --resume-models to have them called",
		arePaused(r.models), b.Counts.Done(), b.Counts.Total)
}
