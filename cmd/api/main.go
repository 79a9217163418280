// Command api serves the OpenAI-compatible Files and Batches API. Any number of
// them may run.
package main

import (
	"os"

	"fusillade/internal/config"
	"fusillade/internal/pipeline"
)

func main() {
	var cfg config.API
	pipeline.Main(pipeline.Binary{
		Role:     "api",
		Settings: &cfg,
		About:    "Serves the Files and Batches API of OpenAI over HTTP.",
		Postgres: &cfg.Postgres, NATS: &cfg.NATS, Admin: &cfg.Admin, Logging: &cfg.Logging,
		Run: func(t pipeline.Turn) error {
			return pipeline.ServeAPI(t, pipeline.Offering{Serving: cfg.Serving, Encryption: cfg.Encryption, Shutdown: cfg.Shutdown})
		},
	}, os.Args[1:])
}
