package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sync/errgroup"

	"fusillade/internal/app"
	"fusillade/internal/config"
	"fusillade/internal/postgres"
)

type serveCmd struct {
	Listen string `placeholder:"HOST:PORT" help:"Address to listen on; port 0 takes a free one (FUSILLADE_LISTEN_ADDR)."`
	localFlags
}

// apiConns are the API's own connections to Postgres, so that its clients and
// the pipeline do not wait for one another's.
const apiConns = 8

// Run serves the API and works on its batches until a signal ends it. Exit
// codes: 0, stopped by a signal; 2, nothing could be started; 1, any other end.
func (c *serveCmd) Run(s signals, t *terminal) error {
	cfg, err := c.settings()
	if err != nil {
		return err
	}
	if c.Listen != "" {
		if err := cfg.Listen.Set(c.Listen); err != nil {
			return usage(fmt.Errorf("--listen: %w", err))
		}
	}
	listener, err := app.Listen(s.taking, cfg.Server)
	if err != nil {
		return usage(err)
	}
	defer listener.Close()
	if c.Mock {
		stop, err := c.startMock(s.doing, cfg)
		if err != nil {
			return usage(err)
		}
		defer stop()
	}
	log, closeLog, err := openLog(cfg, c.DataDir)
	if err != nil {
		return usage(err)
	}
	defer closeLog()
	local, err := app.StartLocal(s.taking, c.local(cfg, log))
	if err != nil {
		return startFailed(s, err)
	}
	defer func() {
		if err := local.Stop(); err != nil {
			t.say("stopping: %v", err)
		}
	}()
	stopAdmin, err := c.show(s, t, cfg, local)
	if err != nil {
		return err
	}
	defer stopAdmin()
	return c.serve(s, t, local, cfg, listener)
}

func startFailed(s signals, err error) error {
	if s.taking.Err() != nil {
		return errInterrupted
	}
	return usage(err)
}

// serve runs the API beside the pipeline. The end of either ends the other.
func (c *serveCmd) serve(s signals, t *terminal, local *app.Local, cfg *config.Standalone, listener net.Listener) error {
	// This process has the data directory to itself: no upload in it has a
	// client any more.
	if _, err := local.Store.RemoveAbandonedFiles(s.taking, 0); err != nil {
		return startFailed(s, err)
	}
	resources := local.Resources
	var err error
	resources.Store, err = postgres.Open(s.taking, postgres.Config{URL: local.DatabaseURL(), MaxConns: apiConns, ApplicationName: "fusillade-api"})
	if err != nil {
		return startFailed(s, err)
	}
	defer resources.Store.Close()
	server, err := app.NewAPI(resources, cfg.API(), app.ConfiguredModels(cfg)...)
	if err != nil {
		return err
	}
	g, taking := errgroup.WithContext(s.taking)
	g.Go(func() error {
		return ended(taking, "the pipeline", app.Standalone(taking, s.doing, local.Resources, cfg, nil))
	})
	g.Go(func() error { return ended(taking, "the API", server.Run(taking, listener)) })
	g.Go(func() error {
		select {
		case <-local.DatabaseEnded():
			return errDatabaseEnded
		case <-taking.Done():
			return nil
		}
	})
	if err := c.greet(t, cfg, listener.Addr().String(), c.missesKeys(s.taking, cfg, resources.Store)); err != nil {
		t.say("%v", err)
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
func (c *serveCmd) missesKeys(ctx context.Context, cfg *config.Standalone, store *postgres.Store) bool {
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

// greet says that the server is ready, and how to use it.
func (c *serveCmd) greet(t *terminal, cfg *config.Standalone, addr string, missesKeys bool) error {
	url := "http://" + addr
	if _, err := fmt.Fprintf(t.out, "listening on %s\n", url); err != nil {
		return fmt.Errorf("saying that the server is ready: %w", err)
	}
	key := "none-needed"
	if cfg.NeedsKeys() {
		key = "YOUR_KEY"
	}
	t.say(firstUse, url, key)
	switch {
	case missesKeys:
		t.say("There is no API key yet. Stop this, then: fusillade keys create --owner NAME --data-dir %s", c.DataDir)
	case !cfg.NeedsKeys() && !cfg.Loopback():
		t.say("API_AUTH is none: whoever can reach %s owns everything in it.", addr)
	}
	t.say("Ctrl-C stops it; batches go on when it is started again.")
	return nil
}
