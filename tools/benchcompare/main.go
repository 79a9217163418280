// Command benchcompare measures two revisions of this repository against each
// other: it builds both, runs `fusillade bench` of each in turn, so that a machine
// whose speed drifts is the same for both, and prints the medians, their spread and
// their ratios. What was measured stays in build/benchcompare, for benchstat.
//
//	go run -C tools/benchcompare . -base main~20 -runs 5 -- --requests 10000
//
// With -bench it runs the Go benchmarks of -packages instead.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// runTimeout bounds one run of one revision.
const runTimeout = 30 * time.Minute

type options struct {
	base, head string // revisions; no head: the files as they are
	runs       int
	bench      string // pattern of Go benchmarks; empty: the whole pipeline
	packages   string
	args       []string
}

func main() {
	var o options
	flag.StringVar(&o.base, "base", "", "revision to compare with")
	flag.StringVar(&o.head, "head", "", "revision to compare; empty: the files of this checkout as they are")
	flag.IntVar(&o.runs, "runs", 5, "runs of each")
	flag.StringVar(&o.bench, "bench", "", "pattern of Go benchmarks to run instead of fusillade bench")
	flag.StringVar(&o.packages, "packages", "./...", "packages of these benchmarks")
	flag.Parse()
	o.args = flag.Args()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "benchcompare:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o options) (err error) {
	if o.base == "" || o.runs < 1 {
		return errors.New("-base REVISION is needed, and -runs must be positive")
	}
	root, err := output(ctx, ".", "git", "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	out := filepath.Join(root, "build", "benchcompare")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	sides := []*side{{name: "base", revision: o.base}, {name: "head", revision: o.head}}
	for _, s := range sides {
		remove, err := s.prepare(ctx, root, out)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, remove()) }()
	}
	for i := range o.runs {
		for j := range sides {
			s := sides[(i+j)%2] // each begins every other time
			fmt.Fprintf(os.Stderr, "run %d of %d: %s\n", i+1, o.runs, s.name)
			if err := s.measure(ctx, o); err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
		}
	}
	base, err := readFigures(sides[0].results)
	if err != nil {
		return err
	}
	head, err := readFigures(sides[1].results)
	if err != nil {
		return err
	}
	return printTable(os.Stdout, base, head)
}

// side is one of the two revisions.
type side struct {
	name, revision string
	dir            string // its files
	program        string
	results        string // file in the format of Go's benchmarks
}

// prepare checks the revision out and builds it. remove takes the checkout away.
func (s *side) prepare(ctx context.Context, root, out string) (remove func() error, err error) {
	s.dir, s.results, s.program = root, filepath.Join(out, s.name+".txt"), filepath.Join(out, s.name)
	remove = func() error { return nil }
	if s.revision != "" {
		if s.dir, err = os.MkdirTemp("", "benchcompare-"); err != nil {
			return nil, err
		}
		remove = func() error {
			_, err := output(context.WithoutCancel(ctx), root, "git", "worktree", "remove", "--force", s.dir)
			return err
		}
		if _, err := output(ctx, root, "git", "worktree", "add", "--detach", s.dir, s.revision); err != nil {
			return nil, err
		}
	}
	if err := os.WriteFile(s.results, nil, 0o644); err != nil {
		return remove, err
	}
	_, err = output(ctx, s.dir, "go", "build", "-buildvcs=false", "-o", s.program, "./cmd/fusillade")
	if err != nil {
		return nil, errors.Join(err, remove())
	}
	return remove, nil
}

// measure runs it once and adds what it measured to its results.
func (s *side) measure(ctx context.Context, o options) error {
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	var text string
	if o.bench != "" {
		args := append([]string{"test", "-run", "^$", "-bench", o.bench}, strings.Fields(o.packages)...)
		printed, err := output(ctx, s.dir, "go", args...)
		if err != nil {
			return err
		}
		text = printed + "\n"
	} else {
		printed, err := output(ctx, s.dir, s.program, append([]string{"bench", "--json", "--runs", "1"}, o.args...)...)
		if err != nil {
			return err
		}
		if text, err = benchmarkLine([]byte(printed)); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(s.results, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// output runs a command in a directory and returns what it printed.
func output(ctx context.Context, dir, name string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, name, args...)
	c.Dir = dir
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = 30 * time.Second
	var errText strings.Builder
	c.Stderr = &errText
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, errText.String())
	}
	return strings.TrimSpace(string(out)), nil
}
