package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"fusillade/client"
	"fusillade/internal/cli"
	"fusillade/internal/config"
	"fusillade/internal/daemon"
)

// remote is what commands have in common that talk to a server's API. The key
// is never a flag: those of every process can be seen by all users.
type remote struct {
	Server string `placeholder:"URL" help:"Server to talk to (FUSILLADE_SERVER, default http://127.0.0.1:8080). If it asks for a key, that is FUSILLADE_API_KEY."`
}

// with runs a command on the server.
func (r *remote) with(do func(*client.Client) error) error {
	cfg := new(config.Client)
	if err := config.Load(cfg); err != nil {
		return cli.Usage(err)
	}
	if r.Server != "" {
		if err := cfg.Server.Set(r.Server); err != nil {
			return cli.Usage(fmt.Errorf("--server %w", err))
		}
	}
	if !cfg.Server.IsSet() {
		return cli.Usage(errors.New("FUSILLADE_SERVER is empty; unset it for http://127.0.0.1:8080"))
	}
	c, err := client.New(client.Config{URL: cfg.Server.Reveal(), Key: cfg.APIKey.Reveal(), UserAgent: "fusillade/" + daemon.Version})
	if err != nil {
		return cli.Usage(err)
	}
	defer c.Close()
	err = do(c)
	switch {
	case client.HasStatus(err, http.StatusUnauthorized):
		return fmt.Errorf("%w Your key goes into the environment variable FUSILLADE_API_KEY", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w: nothing listens there. fusillade serve does, or --server and FUSILLADE_SERVER name another server", err)
	case errors.Is(err, context.Canceled):
		return errors.Join(cli.ErrInterrupted, err)
	}
	return err
}

// jsonFlag is for programs.
type jsonFlag struct {
	JSON bool `name:"json" help:"Print JSON, as the server sent it."`
}

// formatFlags are those of every list.
type formatFlags struct {
	Format cli.Format `name:"output" short:"o" enum:"table,wide,json" default:"table" placeholder:"table|wide|json" help:"How to print it: the columns that fit 80 characters, all of them, or JSON, one object per line."`
	JSON   bool       `name:"json" help:"The same as -o json."`
}

func (f *formatFlags) format() cli.Format {
	if f.JSON {
		return cli.FormatJSON
	}
	return f.Format
}

// listFlags are those of lists that come in pages.
type listFlags struct {
	Limit int `default:"20" placeholder:"N" help:"Most to list, newest first; 0: all (default ${default})."`
	formatFlags
}

func (f *listFlags) check() error {
	if f.Limit < 0 {
		return cli.Usage(errors.New("--limit must not be negative"))
	}
	return nil
}
