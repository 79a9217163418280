package e2e

import (
	"flag"
	"fmt"
	"os"
	"testing"

	"fusillade/internal/testenv"
	"fusillade/internal/testenv/programs"
)

// built is where the programs under test are.
var built programs.Dir

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("skipped: every test here needs Postgres and the programs")
		return
	}
	var err error
	if built, err = programs.Build("..", "e2e"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	testenv.Main(m)
}
