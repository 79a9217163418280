// Command api serves the OpenAI-compatible Files and Batches API. Any number of
// them may run.
package main

import (
	"os"

	"fusillade/internal/app"
	"fusillade/internal/config"
)

func main() {
	var cfg config.API
	app.Main(app.Role{
		Role:     "api",
		Settings: &cfg,
		About:    "Serves the Files and Batches API of OpenAI over HTTP.",
		Postgres: &cfg.Postgres, NATS: &cfg.NATS, Admin: &cfg.Admin, Logging: &cfg.Logging,
		Run: func(t app.Env) error {
			return app.ServeAPI(t, app.APIOptions{API: cfg})
		},
	}, os.Args[1:])
}
