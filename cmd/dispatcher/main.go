// Command dispatcher claims requests from Postgres and publishes them to
// JetStream. Any number of them may run.
package main

import (
	"context"
	"os"

	"fusillade/internal/app"
	"fusillade/internal/config"
)

func main() {
	var cfg config.Dispatcher
	app.Main(app.Role{
		Name:     "dispatcher",
		Settings: &cfg,
		About:    "Claims requests from Postgres and publishes them to JetStream.",
		Process:  &cfg.Process, Daemon: &cfg.Daemon,
		Run: func(taking, doing context.Context, r app.Resources) error {
			return app.Dispatch(taking, doing, r, &cfg)
		},
	}, os.Args[1:])
}
