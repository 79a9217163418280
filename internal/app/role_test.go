package app

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"fusillade/internal/config"
)

// idleRole is one that cannot run, because it never should.
func idleRole(t *testing.T) Role {
	var cfg config.Consumer
	return Role{
		Name: "consumer", About: "Does things.", Settings: &cfg,
		Process: &cfg.Process, Daemon: &cfg.Daemon,
		Run: func(context.Context, context.Context, Resources) error {
			t.Error("it runs")
			return nil
		},
	}
}

func TestRoleHelp(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--help", "-h"} {
		var out bytes.Buffer
		if err := idleRole(t).main([]string{flag}, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Usage: consumer", "Does things.", "FUSILLADE_DATABASE_URL", "FUSILLADE_MAX_IN_FLIGHT"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%s does not say %q", flag, want)
			}
		}
	}
}

func TestRoleRefusesArguments(t *testing.T) {
	t.Parallel()
	err := idleRole(t).main([]string{"--verbose"}, io.Discard, io.Discard)
	if !errors.Is(err, ErrUsage) || !strings.Contains(err.Error(), "--help") {
		t.Errorf("%v, want ErrUsage and a word about --help", err)
	}
}

// Everything that is wrong with the environment is named at once.
func TestRoleRefusesSettings(t *testing.T) {
	t.Setenv("FUSILLADE_MAX_IN_FLIGHT", "0")
	t.Setenv("FUSILLADE_SHOULD_RETRY", "7xx")
	t.Setenv("FUSILLADE_MAX_IN_FLIHGT", "7")
	err := idleRole(t).main(nil, io.Discard, io.Discard)
	if !errors.Is(err, ErrUsage) {
		t.Fatalf("%v, want ErrUsage", err)
	}
	for _, want := range []string{"FUSILLADE_MAX_IN_FLIGHT", "FUSILLADE_SHOULD_RETRY", "FUSILLADE_MAX_IN_FLIHGT", "FUSILLADE_DATABASE_URL", "FUSILLADE_NATS_URL"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, which does not name %s", err, want)
		}
	}
}
