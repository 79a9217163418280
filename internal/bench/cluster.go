package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"fusillade/internal/app"
	"fusillade/internal/batch"
	"fusillade/internal/cli"
	"fusillade/internal/control"
	"fusillade/internal/postgres"
)

const (
	// learned is when every consumer surely has a model's endpoint: a hint tells
	// them at once, and they read it anew every 5 s.
	learned = 6 * time.Second
	// restoreTimeout bounds how long it takes to leave no trace.
	restoreTimeout = 30 * time.Second
	pollInterval   = 50 * time.Millisecond
)

// RunCluster has the daemons that run on a cluster call a mock endpoint in this
// process, and measures and prints what they do. The models it measures with are
// its own and have that endpoint; its files and batches are deleted afterwards.
// What the daemons' processes spend is theirs to tell.
func RunCluster(s cli.Signals, t *cli.Terminal, o Options, cluster app.Resources) error {
	if err := o.check(); err != nil {
		return cli.Usage(err)
	}
	if o.Replicas != 0 || o.CPUProfile != "" || o.DataDir != "" || o.HTTP2 {
		return cli.Usage(errors.New("--replicas, --cpu-profile, --data-dir and --http2 are of a pipeline in this process: leave them out for a cluster"))
	}
	c := &clusterBench{options: &o, cluster: cluster}
	var err error
	if c.controller, err = control.New(control.Config{Store: cluster.Store, Conn: cluster.Conn, Shards: cluster.Streams.Shards, Log: cluster.Log}); err != nil {
		return err
	}
	reports, err := c.measure(s, t)
	if err != nil {
		return err
	}
	return show(t, &o, reports)
}

// clusterBench measures a cluster.
type clusterBench struct {
	options    *Options
	cluster    app.Resources
	controller *control.Controller
}

func (c *clusterBench) measure(s cli.Signals, t *cli.Terminal) (reports []report, err error) {
	arrivals, stopPickup, err := servePickups(net.JoinHostPort(c.options.Host, "0"))
	if err != nil {
		return nil, err
	}
	defer stopPickup()
	mock, err := startMockProcess(s.Doing, net.JoinHostPort(c.options.Host, "0"), c.options.Latency, nil)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, mock.stop()) }()

	m := &measurement{options: c.options, store: c.cluster.Store, conn: c.cluster.Conn, mock: mock, wait: c.wait}
	defer func() { err = errors.Join(err, c.restore(m)) }()
	if err := c.setModels(s.Taking, mock.url, arrivals.url); err != nil {
		return nil, err
	}
	for i := range c.options.Runs {
		file, ingest, err := m.load(s.Taking, modelName, c.options.Requests, c.options.Models)
		if err != nil {
			return nil, err
		}
		r, err := m.run(s.Taking, file, arrivals)
		if err != nil {
			return nil, err
		}
		r.IngestPerSecond = ingest
		reports = append(reports, r)
		noteRun(t, c.options, i, r)
	}
	return reports, nil
}

// setModels has the calls of the benchmark's models go to the mock endpoint, and
// waits until all consumers know.
func (c *clusterBench) setModels(ctx context.Context, mockURL, pickupURL string) error {
	each := batch.Limit(max(c.options.Concurrency/c.options.Models, 1))
	for i := range c.options.Models {
		if err := c.setModel(ctx, modelName(i), control.ModelEndpoint{URLs: []string{mockURL}}, each); err != nil {
			return err
		}
	}
	if err := c.setModel(ctx, pickupModel, control.ModelEndpoint{URLs: []string{pickupURL}}, 1); err != nil {
		return err
	}
	select {
	case <-time.After(learned):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *clusterBench) setModel(ctx context.Context, name string, to control.ModelEndpoint, limit batch.Limit) error {
	if err := control.SetModelEndpoint(ctx, c.cluster.Store, c.cluster.Conn, c.cluster.Keyring, batch.Model(name), to); err != nil {
		return err
	}
	return c.controller.ChangeModel(ctx, batch.Model(name), postgres.ModelChange{Limit: &limit})
}

// restore deletes what was made, and the models' settings. A crash before it leaves
// settings of models that nobody else has, which the next run overwrites, and
// batches that fail as their endpoint is gone.
func (c *clusterBench) restore(m *measurement) error {
	ctx, cancel := context.WithTimeout(context.Background(), restoreTimeout)
	defer cancel()
	var errs []error
	for _, id := range m.batches {
		errs = append(errs, c.controller.DeleteBatch(ctx, id))
	}
	for _, id := range m.files {
		_, err := c.controller.DeleteFile(ctx, id)
		errs = append(errs, err)
	}
	names := []string{pickupModel}
	for i := range c.options.Models {
		names = append(names, modelName(i))
	}
	for _, name := range names {
		errs = append(errs, c.setModel(ctx, name, control.ModelEndpoint{Default: true}, 0))
	}
	return errors.Join(errs...)
}

// wait asks for a batch until it has ended.
func (c *clusterBench) wait(ctx context.Context, id batch.ID) (postgres.Batch, error) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		b, err := c.cluster.Store.GetBatch(ctx, id, nil)
		if err == nil && b.Status.Terminal() {
			return b, nil
		}
		if err != nil && !postgres.Transient(err) {
			return b, fmt.Errorf("waiting for a batch: %w", err)
		}
		select {
		case <-ctx.Done():
			return b, ctx.Err()
		case <-tick.C:
		}
	}
}
