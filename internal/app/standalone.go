package app

import (
	"context"

	"golang.org/x/sync/errgroup"

	"fusillade/internal/config"
	"fusillade/internal/consume"
	"fusillade/internal/daemon"
)

// Standalone runs a dispatcher and a consumer as one daemon until taking ends
// and their work is done. observe is given each consumer that begins; nil:
// nobody watches.
func Standalone(taking, doing context.Context, r Resources, cfg *config.Standalone, observe func(*consume.Consumer)) error {
	return daemon.Run(taking, doing, daemonConfig(r, &cfg.Daemon, "standalone", cfg),
		r.Telemetry.observe(func(taking, doing context.Context, d *daemon.Daemon) error {
			g, taking := errgroup.WithContext(taking)
			g.Go(func() error { return dispatchUntil(taking, r, cfg.Dispatcher(), d) })
			g.Go(func() error { return consumeUntil(taking, doing, r, cfg.Consumer(), observe, d) })
			return g.Wait()
		}))
}
