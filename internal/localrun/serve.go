package localrun

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"fusillade/internal/app"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/postgres"
)

// apiConns are the API's own connections to Postgres, so that its clients and
// the pipeline do not wait for one another's.
const apiConns = 8

// Serve serves the API and works on its batches until a signal ends it. Exit
// codes of the error that it returns: none, stopped by a signal; 2, nothing
// could be started; 1, any other end.
func Serve(s cli.Signals, t *cli.Terminal, cfg Config) error {
	listener, err := app.Listen(s.Taking, cfg.Settings.Server)
	if err != nil {
		return cli.Usage(err)
	}
	defer listener.Close()
	stopMock, err := cfg.startMock(s.Doing)
	if err != nil {
		return cli.Usage(err)
	}
	defer stopMock()
	log, closeLog, err := OpenLog(cfg.Settings.Logging, cfg.DataDir)
	if err != nil {
		return cli.Usage(err)
	}
	defer closeLog()
	admin, err := app.StartAdmin(s.Taking, cfg.Settings.Admin, cfg.Settings.TracesOn(), true, log)
	if err != nil {
		return cli.Usage(err)
	}
	defer admin.Stop()
	tracer, stopTraces, err := app.StartTraces(s.Taking, "fusillade", &cfg.Settings.Traces, admin.Telemetry(), log)
	if err != nil {
		return cli.Usage(err)
	}
	defer stopTraces()
	started := t.Waiting("starting Postgres in %s", cfg.DataDir)
	how, last := cfg.local(log), ""
	how.Waits = func(what string) {
		admin.WaitsFor(what)
		if what != "" && what != last {
			t.Notef("%s", what)
		}
		last = what
	}
	local, err := app.StartLocal(s.Taking, how)
	started()
	if err != nil {
		return startFailed(s, err)
	}
	defer func() {
		admin.Stop() // it looks at what is stopped next
		if err := local.Stop(); err != nil {
			t.Notef("stopping: %v", err)
		}
	}()
	local.Tracer = tracer
	local.ShownBy(admin)
	cfg.show(t, local)
	return serve(s, t, local, cfg, listener)
}

func startFailed(s cli.Signals, err error) error {
	if s.Taking.Err() != nil {
		return cli.ErrInterrupted
	}
	return cli.Usage(err)
}

// serve runs the API beside the pipeline. The end of either ends the other.
func serve(s cli.Signals, t *cli.Terminal, local *app.Local, cfg Config, listener net.Listener) error {
	// This process has the data directory to itself: no upload in it has a
	// client any more.
	if _, err := local.Store.RemoveAbandonedFiles(s.Taking, 0); err != nil {
		return startFailed(s, err)
	}
	foreign, err := cfg.excludeForeign(s.Taking, t, local)
	if err != nil {
		return startFailed(s, err)
	}
	resources := local.Resources
	resources.Store, err = local.OpenStore(s.Taking, "fusillade-api", apiConns)
	if err != nil {
		return startFailed(s, err)
	}
	defer resources.Store.Close()
	resources.Store = resources.Store.Excluding(foreign)
	server, err := app.NewAPI(resources, cfg.Settings.API(), app.ConfiguredModels(cfg.Settings)...)
	if err != nil {
		return err
	}
	g, taking := errgroup.WithContext(s.Taking)
	g.Go(func() error {
		return ended(taking, "the daemon", app.Standalone(taking, s.Doing, local.Resources, cfg.Settings, nil))
	})
	g.Go(func() error { return ended(taking, "the API", server.Run(taking, listener)) })
	g.Go(func() error {
		app.ReleaseMemory(taking)
		return nil
	})
	g.Go(func() error {
		select {
		case <-local.DatabaseEnded():
			return errDatabaseEnded
		case <-taking.Done():
			return nil
		}
	})
	if err := printBanner(t, cfg, listener.Addr().String(), missesKeys(s.Taking, cfg.Settings, resources.Store)); err != nil {
		t.Notef("%v", err)
	}
	return g.Wait()
}

// ended makes an error of the end of something that should go on.
func ended(taking context.Context, what string, err error) error {
	if err == nil && taking.Err() == nil {
		return errors.New(what + " ended early")
	}
	return err
}

// missesKeys reports whether keys are asked for and nobody has one.
func missesKeys(ctx context.Context, cfg *config.Standalone, store *postgres.Store) bool {
	if !cfg.NeedsKeys() {
		return false
	}
	keys, err := store.APIKeys(ctx)
	if err != nil {
		return false
	}
	for _, k := range keys {
		if k.RevokedAt.IsZero() {
			return false
		}
	}
	return true
}

const firstUse = `
Python:
    from openai import OpenAI
    client = OpenAI(base_url="%[1]s/v1", api_key=%[2]q)
    file = client.files.create(file=open("requests.jsonl", "rb"), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    print(client.batches.retrieve(batch.id).request_counts)
`

// printBanner prints that the server is ready, and how to use it.
func printBanner(t *cli.Terminal, cfg Config, addr string, missesKeys bool) error {
	url := "http://" + addr
	everywhere := false
	if at, err := netip.ParseAddrPort(addr); err == nil && at.Addr().IsUnspecified() {
		everywhere, url = true, fmt.Sprintf("http://127.0.0.1:%d", at.Port())
	}
	if _, err := fmt.Fprintf(t.Out, "listening on %s\n", url); err != nil {
		return fmt.Errorf("printing that the server is ready: %w", err)
	}
	if everywhere {
		t.Notef("and on every other address of this machine")
	}
	key := "none-needed"
	if cfg.Settings.NeedsKeys() {
		key = "YOUR_KEY"
	}
	t.Notef(firstUse, url, key)
	if cfg.Settings.UI {
		t.Notef("Dashboard: %s/ui", url)
	}
	switch {
	case missesKeys:
		t.Notef("There is no API key yet. In another terminal: fusillade keys create --owner NAME --data-dir %s", cfg.DataDir)
	case !cfg.Settings.NeedsKeys() && !cfg.Settings.Loopback():
		t.Notef("API_AUTH is none: everyone who can reach %s owns everything in it.", addr)
	}
	t.Notef("Ctrl-C stops it; batches go on when it is started again.")
	return nil
}
