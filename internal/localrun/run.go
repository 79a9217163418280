package localrun

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/consume"
	"fusillade/internal/postgres"
)

// Run runs the job and writes its results. Exit codes of the error that it
// returns: none, all completed; 1, some failed; 2, nothing could be started, or
// not to the end; 3, the endpoint refuses every call; 130, stopped by a signal.
func Run(s cli.Signals, t *cli.Terminal, cfg Config, j Job) error {
	stopMock, err := cfg.startMock(s.Doing)
	if err != nil {
		return cli.Usage(err)
	}
	defer stopMock()
	if err := cfg.Reachable(s.Taking); err != nil {
		return cli.Usage(err)
	}
	log, closeLog, err := OpenLog(cfg.Settings.Logging, cfg.DataDir)
	if err != nil {
		return cli.Usage(err)
	}
	defer closeLog()
	started := t.Waiting("starting Postgres in %s", cfg.DataDir)
	local, err := app.StartLocal(s.Taking, cfg.local(log))
	started()
	if err != nil {
		return stopped(s, t, err)
	}
	defer func() {
		if err := local.Stop(); err != nil {
			t.Notef("stopping: %v", err)
		}
	}()
	stopAdmin, err := local.ServeAdmin(s.Taking, cfg.Settings.Admin, cfg.Settings.TracesOn(), true)
	if err != nil {
		return cli.Usage(err)
	}
	defer stopAdmin()
	tracer, stopTraces, err := app.StartTraces(s.Taking, "fusillade", &cfg.Settings.Traces, local.Telemetry, log)
	if err != nil {
		return cli.Usage(err)
	}
	defer stopTraces()
	local.Tracer = tracer
	cfg.show(t, local)
	finder := &finder{Job: j, cfg: &cfg, store: local.Store, terminal: t, tracer: local.Tracer}
	id, err := finder.batch(s.Taking)
	if err != nil {
		return stopped(s, t, err)
	}
	if err := cfg.excludeOthers(s.Taking, t, local, id); err != nil {
		return stopped(s, t, err)
	}
	paused, err := pausedModels(s.Taking, t, local.Store, id, j.ResumeModels)
	if err != nil {
		return stopped(s, t, err)
	}
	b, err := work(s, t, local, cfg, id, j.GiveUpAfter, paused)
	var refused *refusedError
	if errors.As(err, &refused) {
		b, err = endRefused(context.WithoutCancel(s.Doing), local, id, refused)
	}
	if err != nil || !b.Status.Terminal() {
		writePartial(s.Doing, t, local.Store, j.Outputs, b)
	}
	if refused != nil {
		return err
	}
	if err != nil {
		return stopped(s, t, err)
	}
	if !b.Status.Terminal() {
		t.Notef("stopped with %d of %d requests done; run the same command again to go on", b.Counts.Done(), b.Counts.Total)
		return cli.ErrInterrupted
	}
	if err := WriteResults(s.Doing, local.Store, id, j.Outputs); err != nil {
		return stopped(s, t, err)
	}
	return summary(t, j.Outputs, b)
}

// stopped says whether an error is that of a stop by the user.
func stopped(s cli.Signals, t *cli.Terminal, err error) error {
	if s.Taking.Err() != nil {
		t.Notef("interrupted; run the same command again to go on")
		return cli.ErrInterrupted
	}
	if postgres.DiskFull(err) {
		return cli.Usage(fmt.Errorf("the data directory's disk is full; free some space and run the same command again, it goes on where it was: %w", err))
	}
	return cli.Usage(err)
}

// work works on the batch until it has ended or the user stops it.
func work(s cli.Signals, t *cli.Terminal, local *app.Local, cfg Config, id batch.ID, giveUpAfter time.Duration, paused []batch.Model) (postgres.Batch, error) {
	taking, stopTaking := context.WithCancel(s.Taking)
	defer stopTaking()
	doing, stopDoing := context.WithCancel(s.Doing)
	defer stopDoing()
	var consumer atomic.Pointer[consume.Consumer]
	finished := make(chan error, 1)
	go func() {
		finished <- app.Standalone(taking, doing, local.Resources, cfg.Settings, func(c *consume.Consumer) { consumer.Store(c) })
		close(finished)
	}()
	stats := func() (s consume.Stats) {
		if c := consumer.Load(); c != nil {
			s = c.Stats()
		}
		return s
	}
	p := cli.NewProgress(t)
	only := func(models []batch.Model) (bool, error) {
		ctx, cancel := context.WithTimeout(s.Taking, dialTimeout)
		defer cancel()
		return local.Store.OnlyModels(ctx, id, models)
	}
	rule, pause := giveUpRule{after: giveUpAfter, only: only}, pausedRule{models: paused, only: only}
	b, err := Watch(s.Taking, local, id, finished, func(b postgres.Batch) error {
		now := stats()
		p.Update(b.Counts.Total, b.Counts.Done(), state(b, now))
		if b.Status.Terminal() {
			return nil
		}
		return cmp.Or(fatal(now), rule.giveUp(now), pause.end(b, now.InFlight))
	})
	stopTaking()
	if s.Taking.Err() != nil && !b.Status.Terminal() {
		if n := stats().InFlight; n > 0 {
			p.Notef("finishing %s in flight; once more to stop at once", cli.Count(int64(n), "call"))
		}
	} else {
		stopDoing() // nothing is left to do: no call in flight, no message on its way
	}
	if runErr, ok := <-finished; ok && err == nil && runErr != nil && !b.Status.Terminal() {
		err = runErr
	}
	p.End()
	if err != nil {
		return b, err
	}
	final, cancel := context.WithTimeout(context.WithoutCancel(s.Doing), dialTimeout)
	defer cancel()
	b, err = local.Store.GetBatch(final, id, nil)
	if err == nil && b.Status.Terminal() {
		err = allRefused(giveUpAfter, stats())
	}
	return b, err
}

// errorAge is how long a failure is shown after it happened.
const errorAge = 10 * time.Second

// state describes the work on a batch.
func state(b postgres.Batch, s consume.Stats) string {
	text := fmt.Sprintf("failed %d, in flight %d", b.Counts.Failed, s.InFlight)
	if s.Retried > 0 {
		text += fmt.Sprintf(", retried %d", s.Retried)
	}
	last := s.LastError
	switch {
	case len(s.Refusals) > 0:
		r := s.Refusals[0]
		text += fmt.Sprintf("; %s: %s, %s", r.Model, r.Kind.Info().Text, r.Cause)
		if r.Message != "" {
			text += fmt.Sprintf(", %q", cli.Plain(r.Message))
		}
	case last == nil || time.Since(last.At) >= errorAge:
	case last.Model == "":
		text += "; " + last.Detail
	default:
		text += fmt.Sprintf("; last failure, of %s: %s", last.Model, last.Detail)
	}
	return text
}

// writeErrorAge is how old a failure to write results may be for the run to be
// ended. They are kept in memory meanwhile, and called again otherwise.
const writeErrorAge = 30 * time.Second

// fatal ends a run whose results cannot be written, before it fills memory and
// calls more in vain.
func fatal(s consume.Stats) error {
	last := s.LastError
	if last == nil || last.Err == nil || time.Since(last.At) > writeErrorAge {
		return nil
	}
	if postgres.DiskFull(last.Err) {
		return last.Err
	}
	return nil
}
