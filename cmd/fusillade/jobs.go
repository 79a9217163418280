package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/postgres"
)

type jobsCmd struct {
	Ls jobsLsCmd `cmd:"" help:"List the jobs of fusillade run that a data directory holds."`
	Rm jobsRmCmd `cmd:"" help:"Remove jobs with their inputs and results; an unfinished one is cancelled."`
	databaseFlags
}

type jobsLsCmd struct {
	JSON bool `name:"json" help:"Print JSON, one object per line."`
}

// jobLine is a job as ls prints it.
type jobLine struct {
	ID        string    `json:"id"`
	Input     string    `json:"input"`
	Status    string    `json:"status"`
	Total     int64     `json:"total"`
	Completed int64     `json:"completed"`
	Failed    int64     `json:"failed"` // or canceled, or expired
	Endpoint  string    `json:"endpoint"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
}

func (c *jobsLsCmd) Run(ctx context.Context, t *cli.Terminal, jobs *jobsCmd) error {
	return jobs.with(ctx, func(s *postgres.Store) error {
		list, err := s.Jobs(ctx)
		if err != nil {
			return err
		}
		w := cli.NewTable(t.Out, "ID INPUT STATUS TOTAL COMPLETED FAILED CREATED ENDPOINT")
		for _, j := range list {
			b, err := s.GetBatch(ctx, j.Batch, nil)
			if errors.Is(err, batch.ErrNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			l := jobLine{
				ID: j.Batch.String(), Input: j.Input, Status: string(b.Status), Endpoint: j.Endpoint, CreatedAt: b.CreatedAt.UTC(),
				ExpiresAt: b.ExpiresAt.UTC(), Total: b.Counts.Total, Completed: b.Counts.Completed, Failed: b.Unsuccessful(),
			}
			if c.JSON {
				err = t.PrintJSONLine(l)
			} else {
				_, err = fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%s\t%s\n", l.ID, cli.Plain(l.Input), l.Status, l.Total, l.Completed, l.Failed,
					l.CreatedAt.Format(time.RFC3339), cli.Plain(l.Endpoint))
			}
			if err != nil {
				return err
			}
		}
		if c.JSON {
			return nil
		}
		return w.Flush()
	})
}

type jobsRmCmd struct {
	IDs      []string `arg:"" optional:"" name:"id" placeholder:"ID" help:"As jobs ls lists them."`
	Finished bool     `help:"Remove all that have finished."`
}

func (c *jobsRmCmd) Run(ctx context.Context, t *cli.Terminal, jobs *jobsCmd) error {
	if (len(c.IDs) == 0) != c.Finished {
		return cli.Usage(errors.New("give ids of jobs, or --finished"))
	}
	wanted := make(map[batch.ID]bool, len(c.IDs))
	for _, text := range c.IDs {
		id, err := batchID(text)
		if err != nil {
			return err
		}
		wanted[id] = true
	}
	return jobs.with(ctx, func(s *postgres.Store) error {
		list, err := s.Jobs(ctx)
		if err != nil {
			return err
		}
		for _, j := range list {
			if !wanted[j.Batch] && (!c.Finished || !j.Status.Terminal()) {
				continue
			}
			if err := s.RemoveJob(ctx, j); err != nil {
				return err
			}
			delete(wanted, j.Batch)
			t.Notef("removed %s of %s", j.Batch, cli.Plain(j.Input))
		}
		for id := range wanted {
			return cli.Usage(fmt.Errorf("there is no job %s: see fusillade jobs ls", id))
		}
		return nil
	})
}
