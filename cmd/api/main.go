// Command api serves the OpenAI-compatible Files and Batches API. Any number of
// them may run.
package main

import (
	"context"
	"os"

	"fusillade/internal/app"
	"fusillade/internal/config"
)

func main() {
	var cfg config.API
	app.Main(app.Role{
		Name:     "api",
		Settings: &cfg,
		About:    "Serves the Files and Batches API of OpenAI over HTTP.",
		Process:  &cfg.Process,
		Server:   &cfg.Server,
		Run: func(taking, _ context.Context, r app.Resources) error {
			return app.ServeAPI(taking, r, &cfg)
		},
	}, os.Args[1:])
}
