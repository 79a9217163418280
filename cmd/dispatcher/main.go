// Command dispatcher claims requests from Postgres and publishes them to
// JetStream. Any number of them may run.
package main

import (
	"os"

	"fusillade/internal/config"
	"fusillade/internal/pipeline"
)

func main() {
	var cfg config.Dispatcher
	pipeline.Main(pipeline.Binary{
		Role:     "dispatcher",
		Settings: &cfg,
		About:    "Claims requests from Postgres and publishes them to JetStream.",
		Daemon:   &cfg.Daemon, Postgres: &cfg.Postgres, NATS: &cfg.NATS, Admin: &cfg.Admin, Logging: &cfg.Logging,
		Run: func(t pipeline.Turn) error {
			return pipeline.Dispatch(t.Taking, t.Doing, t.Resources, pipeline.Dispatching{
				Daemon: cfg.Daemon, Encryption: cfg.Encryption, Webhooks: cfg.Webhooks,
			}, config.Snapshot(&cfg))
		},
	}, os.Args[1:])
}
