// Command consumer takes requests from JetStream, calls their model endpoints
// and writes the results to Postgres. Any number of them may run.
package main

import (
	"os"

	"fusillade/internal/app"
	"fusillade/internal/config"
)

func main() {
	var cfg config.Consumer
	app.Main(app.Role{
		Role:     "consumer",
		Settings: &cfg,
		About:    "Takes requests from JetStream, calls model endpoints and writes results to Postgres.",
		Daemon:   &cfg.Daemon, Postgres: &cfg.Postgres, NATS: &cfg.NATS, Admin: &cfg.Admin, Logging: &cfg.Logging,
		Run: func(t app.Env) error {
			return app.Consume(t.Taking, t.Doing, t.Resources, app.ConsumerOptions{Consumer: cfg}, config.Snapshot(&cfg))
		},
	}, os.Args[1:])
}
