package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
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

type jobsLsCmd struct{ formatFlags }

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
	return jobs.with(ctx, t, func(s *postgres.Store) error {
		list, err := s.Jobs(ctx)
		if err != nil {
			return err
		}
		lines := func(yield func(jobLine, error) bool) {
			for _, j := range list {
				l, err := readJob(ctx, s, j)
				if !errors.Is(err, batch.ErrNotFound) && !yield(l, err) {
					return
				}
			}
		}
		return cli.PrintList(t, c.format(), lines, cli.RawLine, jobColumns...)
	})
}

func readJob(ctx context.Context, s *postgres.Store, j postgres.Job) (jobLine, error) {
	b, err := s.GetBatch(ctx, j.Batch, nil)
	if err != nil {
		return jobLine{}, err
	}
	return jobLine{
		ID: j.Batch.String(), Input: j.Input, Status: string(b.Status), Endpoint: j.Endpoint, CreatedAt: b.CreatedAt.UTC(),
		ExpiresAt: b.ExpiresAt.UTC(), Total: b.Counts.Total, Completed: b.Counts.Completed, Failed: b.Unsuccessful(),
	}, nil
}

var jobColumns = []cli.Column[jobLine]{
	{Name: "ID", Cell: func(l jobLine) string { return l.ID }},
	{Name: "STATUS", Cell: func(l jobLine) string { return l.Status }},
	{Name: "TOTAL", Cell: func(l jobLine) string { return strconv.FormatInt(l.Total, 10) }},
	{Name: "COMPLETED", Wide: true, Cell: func(l jobLine) string { return strconv.FormatInt(l.Completed, 10) }},
	{Name: "FAILED", Cell: func(l jobLine) string { return strconv.FormatInt(l.Failed, 10) }},
	{Name: "AGE", Cell: func(l jobLine) string { return cli.Age(l.CreatedAt.Unix()) }},
	{Name: "CREATED", Wide: true, Cell: func(l jobLine) string { return cli.Moment(l.CreatedAt.Unix()) }},
	{Name: "INPUT", Flexible: true, Cell: func(l jobLine) string { return l.Input }},
	{Name: "ENDPOINT", Wide: true, Cell: func(l jobLine) string { return l.Endpoint }},
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
	return jobs.alone(ctx, t, func(s *postgres.Store) error {
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
