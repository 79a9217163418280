package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"fusillade/internal/testenv"
)

// programs is where the binaries under test are: a directory that git ignores
// and `make clean` removes.
var programs string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped: every test here needs Postgres and the programs")
		return
	}
	dir, err := filepath.Abs(filepath.Join("..", "build", "e2e"))
	if err == nil {
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "building the programs:", err)
		os.Exit(1)
	}
	programs = dir
	testenv.Main(m)
}

// build has the flags of the Makefile's build, which has compiled the packages
// for it, then.
func build(dir string) error {
	cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-ldflags=-s -w", "-o", dir+string(filepath.Separator), "fusillade/cmd/...")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

func program(name string) string { return filepath.Join(programs, name) }
