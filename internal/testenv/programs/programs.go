// Package programs builds the commands of this module and runs them as
// processes, for tests of what only whole processes show.
package programs

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fusillade/internal/testenv"
)

// buildLimit bounds a build that finds nothing in the cache.
const buildLimit = 10 * time.Minute

// Dir is a directory of programs that Build has made.
type Dir string

// Commands are the packages of all commands, for Build.
const Commands = "./cmd/..."

// Main builds the programs of a package's tests, says where they are, and runs the
// tests. It is all of a TestMain. With -short it does neither.
func Main(m *testing.M, built *Dir, build func() (Dir, error)) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped: every test here needs Postgres and programs")
		return
	}
	var err error
	if *built, err = build(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testenv.Main(m)
}

// Build makes the programs of packages in the directory build/NAME of the module,
// which git ignores and `make clean` removes. top is the module's root, from the
// working directory; the packages are named from there.
//
// It builds as the Makefile does, whose build has compiled the packages for it, then;
// but -race needs C.
func Build(top, name, packages string, flags ...string) (Dir, error) {
	dir, err := filepath.Abs(filepath.Join(top, "build", name))
	if err != nil {
		return "", fmt.Errorf("building the programs: %w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), buildLimit)
	defer cancel()
	args := []string{"build", "-o", dir + string(filepath.Separator), "-buildvcs=false", "-trimpath", "-ldflags=-s -w"}
	env := os.Environ()
	if !slices.Contains(flags, "-race") {
		env = append(env, "CGO_ENABLED=0")
	}
	cmd := exec.CommandContext(ctx, "go", append(append(args, flags...), packages)...)
	cmd.Dir = top
	cmd.Env, cmd.Stdout, cmd.Stderr = env, os.Stderr, os.Stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("building the programs: %w", err)
	}
	return Dir(dir), nil
}

// Launch starts a program, which the caller ends with Kill.
func (d Dir) Launch(env []string, name string, args ...string) (*Process, error) {
	p := &Process{Name: name, cmd: d.command(context.Background(), env, name, args), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting %s: %w", name, err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // Exit has the code
	}()
	return p, nil
}

// Start is Launch for a program that is killed at the end of the test if it
// still runs then. If the test failed, it shows the end of what was printed.
func (d Dir) Start(t testing.TB, env []string, name string, args ...string) *Process {
	t.Helper()
	p, err := d.Launch(env, name, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s (pid %d) printed:\n%s", name, p.PID(), p.Tail())
		}
	})
	return p
}

// Run runs the fusillade command to its end and returns what it printed on
// standard output. An error has what it printed on standard error.
func (d Dir) Run(ctx context.Context, env []string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, testenv.Patience)
	defer cancel()
	cmd := d.command(ctx, env, "fusillade", args)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("fusillade %s: %w\n%s", strings.Join(args, " "), err, errOut.String())
	}
	return strings.TrimSpace(string(out)), err
}

func (d Dir) command(ctx context.Context, env []string, name string, args []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(string(d), name), args...)
	// A program that looks for races would linger for a second as it ends.
	cmd.Env = append(env[:len(env):len(env)], "GORACE=atexit_sleep_ms=0")
	return cmd
}

// Environment is that of this process without the settings of fusillade and OpenTelemetry, and
// with those given.
func Environment(settings ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "FUSILLADE_") && !strings.HasPrefix(v, "OTEL_") {
			env = append(env, v)
		}
	}
	return append(env, settings...)
}
