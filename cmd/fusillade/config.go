package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"fusillade/internal/app"
	"fusillade/internal/cli"
	"fusillade/internal/config"
)

type configCmd struct {
	Check configCheckCmd `cmd:"" help:"Read the settings of this environment, and look whether what they name can be reached."`
}

type configCheckCmd struct {
	All bool `help:"List the settings that have their default too."`
	jsonFlag
}

// Run ends with exit code 1 where something cannot be reached, and with 2 where a
// setting is wrong.
func (c *configCheckCmd) Run(ctx context.Context, t *cli.Terminal) error {
	cfg, err := loadSettings()
	if err != nil {
		return err
	}
	var settings []config.Source
	for _, s := range config.Sources(cfg) {
		if c.All || s.From != "" {
			settings = append(settings, s)
		}
	}
	done := t.Waiting("connecting to what the settings name")
	found := app.Diagnose(ctx, cfg)
	done()
	bad := 0
	for _, f := range found {
		if !f.OK {
			bad++
		}
	}
	if c.JSON {
		err = t.PrintJSON(struct {
			Settings []config.Source `json:"settings"`
			Findings []app.Finding   `json:"findings"`
		}{append([]config.Source{}, settings...), append([]app.Finding{}, found...)})
	} else {
		err = printConfig(t, settings, found)
	}
	if err == nil && bad > 0 {
		err = errors.New("something that the settings name cannot be used: see above")
	}
	return err
}

func printConfig(t *cli.Terminal, settings []config.Source, found []app.Finding) error {
	raw := func(s config.Source) json.RawMessage { return nil }
	if len(settings) > 0 {
		if err := cli.PrintList(t, cli.FormatTable, cli.All(settings), raw,
			cli.Column[config.Source]{Name: "SETTING", Cell: func(s config.Source) string { return s.Variable }},
			cli.Column[config.Source]{Name: "FROM", Cell: func(s config.Source) string {
				switch s.From {
				case "":
					return "default"
				case s.Variable:
					return "environment"
				}
				return s.From
			}},
			cli.Column[config.Source]{Name: "VALUE", Flexible: true, Cell: func(s config.Source) string { return s.Value }}); err != nil {
			return err
		}
		fmt.Fprintln(t.Out)
	}
	for _, f := range found {
		mark := "ok   "
		if !f.OK {
			mark = "FAIL "
		}
		if _, err := fmt.Fprintf(t.Out, "%s%s: %s\n", mark, cli.Plain(f.What), cli.Plain(f.Text)); err != nil {
			return err
		}
	}
	return nil
}
