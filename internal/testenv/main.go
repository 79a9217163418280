package testenv

import (
	"flag"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// parallel is how many tests of a package run at once, if there are not more
// processors: they wait more than they compute.
const parallel = 4

// Main runs the tests, stops the servers that they started, fails if a goroutine
// is left over, and exits. It is all of a TestMain. Unless -parallel says otherwise,
// more tests run at once than there are processors, on a small machine.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	flag.Parse()
	if err := runParallel(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return 1
	}
	process.begin()
	code := m.Run()
	used, err := process.end()
	if used != nil {
		fmt.Println("testenv:", used.source)
	}
	if err == nil {
		err = goleak.Find(leftByLibraries(used)...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return max(code, 1)
	}
	return code
}

// leftByLibraries are goroutines that a library keeps until the process ends.
func leftByLibraries(used *databaseServer) []goleak.Option {
	if used == nil || !used.container {
		return nil
	}
	// The connection whose end tells the container's guard to clean up.
	return []goleak.Option{goleak.IgnoreAnyFunction("github.com/testcontainers/testcontainers-go.(*Reaper).connect.func1")}
}

func runParallel() error {
	given := runtime.GOMAXPROCS(0) >= parallel
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if given {
		return nil
	}
	return flag.Set("test.parallel", strconv.Itoa(parallel))
}
