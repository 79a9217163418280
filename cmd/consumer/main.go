// Command consumer takes requests from JetStream, calls their model endpoints
// and writes the results to Postgres. Any number of them may run.
package main

import (
	"context"
	"os"

	"fusillade/internal/app"
	"fusillade/internal/config"
)

func main() {
	var cfg config.Consumer
	app.Main(app.Role{
		Name:     "consumer",
		Settings: &cfg,
		About:    "Takes requests from JetStream, calls model endpoints and writes results to Postgres.",
		Process:  &cfg.Process, Daemon: &cfg.Daemon,
		Run: func(taking, doing context.Context, r app.Resources) error {
			return app.Consume(taking, doing, r, &cfg, nil)
		},
	}, os.Args[1:])
}
