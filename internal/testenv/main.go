package testenv

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests, stops the servers that they started, fails if a goroutine
// is left over, and exits. It is all of a TestMain.
func Main(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
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
