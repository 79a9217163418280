// Command dispatcher claims requests from Postgres and publishes them to
// JetStream. Any number of them may run.
package main

import (
	"os"

	"fusillade/internal/app"
	"fusillade/internal/config"
)

func main() {
	var cfg config.Dispatcher
	app.Main(app.Role{
		Role:     "dispatcher",
		Settings: &cfg,
		About:    "Claims requests from Postgres and publishes them to JetStream.",
		Daemon:   &cfg.Daemon, Postgres: &cfg.Postgres, NATS: &cfg.NATS, Admin: &cfg.Admin, Logging: &cfg.Logging,
		Run: func(t app.Env) error {
			return app.Dispatch(t.Taking, t.Doing, t.Resources, app.DispatcherOptions{Dispatcher: cfg}, config.Snapshot(&cfg))
		},
	}, os.Args[1:])
}
