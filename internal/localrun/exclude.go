package localrun

import (
	"context"
	"slices"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/postgres"
)

// shownJobs is how many jobs are named at the start.
const shownJobs = 5

// excludeOthers leaves everything but one batch as it is, and names it.
func (c *Config) excludeOthers(ctx context.Context, t *cli.Terminal, local *app.Local, id batch.ID) error {
	excluded, err := local.Store.UnfinishedBatches(ctx)
	if err != nil {
		return err
	}
	excluded = slices.DeleteFunc(excluded, func(other batch.ID) bool { return other == id })
	if len(excluded) == 0 {
		return nil
	}
	jobs, err := local.Store.Jobs(ctx)
	if err != nil {
		return err
	}
	jobs = slices.DeleteFunc(jobs, func(j postgres.Job) bool { return !slices.Contains(excluded, j.Batch) })
	if err := c.nameJobs(ctx, t, local.Store, jobs, "It stays as it is"); err != nil {
		return err
	}
	switch n := len(excluded) - len(jobs); n {
	case 0:
	case 1:
		t.Notef("1 other unfinished batch is here; it stays as it is")
	default:
		t.Notef("%d other unfinished batches are here; they stay as they are", n)
	}
	local.Store = local.Store.Excluding(excluded)
	return nil
}

// excludeForeign leaves the jobs as they are whose answers another endpoint than
// this one gave, names those that are unfinished, and returns all of them: the API
// reruns none.
func (c *Config) excludeForeign(ctx context.Context, t *cli.Terminal, local *app.Local) (excluded []batch.ID, err error) {
	jobs, err := local.Store.Jobs(ctx)
	if err != nil {
		return nil, err
	}
	var foreign []postgres.Job
	for _, j := range jobs {
		endpoint, err := c.endpointOf(ctx, local.Store, j.File)
		if err != nil {
			return nil, err
		}
		switch {
		case j.Status.Terminal():
			if !sameEndpoint(j, endpoint) {
				excluded = append(excluded, j.Batch)
			}
		case j.Endpoint != endpoint:
			foreign, excluded = append(foreign, j), append(excluded, j.Batch)
		default:
			t.Notef("going on with the job of %s: %s", j.Input, j.Batch)
		}
	}
	if len(excluded) == 0 {
		return nil, nil
	}
	local.Store = local.Store.Excluding(excluded)
	return excluded, c.nameJobs(ctx, t, local.Store, foreign, "It is not called here, for its endpoint is another one")
}

// nameJobs names unfinished jobs and says what happens to each.
func (c *Config) nameJobs(ctx context.Context, t *cli.Terminal, store *postgres.Store, jobs []postgres.Job, consequence string) error {
	for i, j := range jobs {
		if i == shownJobs {
			t.Notef("and %d more", len(jobs)-i)
			break
		}
		b, err := store.GetBatch(ctx, j.Batch, nil)
		if err != nil {
			return err
		}
		t.Notef("1 unfinished job of %s is here: %s, %d of %d requests done, begun with %s. %s.",
			j.Input, j.Batch, b.Counts.Done(), b.Counts.Total, shownEndpoint(j.Endpoint), consequence)
	}
	if len(jobs) > 0 {
		t.Notef("See: fusillade jobs ls --data-dir %s", c.DataDir)
	}
	return nil
}
