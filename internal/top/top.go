package top

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"fusillade/client"
	"fusillade/internal/cli"
)

// Config says what to show. API is required.
type Config struct {
	API     *client.Client
	Server  string        // as people know it
	Refresh time.Duration // between two looks; default 1 s
	Width   int           // of what Once prints; default 80
}

func (c Config) withDefaults() Config {
	if c.Refresh == 0 {
		c.Refresh = time.Second
	}
	if c.Width == 0 {
		c.Width = 80
	}
	return c
}

// onceHeight is room enough for all lists.
const onceHeight = 1 << 20

// Once prints all lists as they are, with the rates between two looks.
func Once(ctx context.Context, cfg Config, out io.Writer) error {
	cfg = cfg.withDefaults()
	before, err := Read(ctx, cfg.API)
	if err != nil {
		return err
	}
	wait := time.NewTimer(cfg.Refresh)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := Read(ctx, cfg.API)
	if err != nil {
		return err
	}
	s := screen{cfg: cfg, before: before, now: after, width: cfg.Width, height: onceHeight}
	var lines []string
	for _, line := range head(after, rate(before, after), cfg.Server) {
		lines = append(lines, wrap(cli.Plain(line), cfg.Width)...)
	}
	for s.tab = range tabs {
		if rows := s.rows(); len(rows) > 1 {
			lines = append(lines, "", tabNames[s.tab])
			lines = append(lines, rows...)
		}
	}
	for i, line := range lines {
		lines[i] = strings.TrimRight(fit(cli.Plain(line), cfg.Width), " ")
	}
	_, err = fmt.Fprintln(out, strings.Join(lines, "\n"))
	return err
}

// Run shows the overview until the user quits or ctx ends.
func Run(ctx context.Context, cfg Config, options ...tea.ProgramOption) error {
	cfg = cfg.withDefaults()
	// Where the first look fails there is nothing to show, and its error says why.
	first, err := Read(ctx, cfg.API)
	if err != nil {
		return err
	}
	s := &screen{ctx: ctx, cfg: cfg, now: first, width: cfg.Width, height: 24}
	if !first.Operator {
		s.tab = batches
	}
	_, err = tea.NewProgram(s, append([]tea.ProgramOption{tea.WithContext(ctx)}, options...)...).Run()
	if errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil {
		return context.Canceled
	}
	return err
}
