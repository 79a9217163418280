//go:build chaos && unix

package chaos

import (
	"cmp"
	"context"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

var (
	programs string // where the binaries under test are
	seed     uint64
	pg       *postgresServer // shared by all tests
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(natsDirVariable); dir != "" {
		os.Exit(beBroker(dir))
	}
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = cmp.Or(code, 1)
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if seed, err = chooseSeed(); err != nil {
		return 0, err
	}
	fmt.Printf("CHAOS_SEED=%d\n", seed)
	if programs, err = filepath.Abs(filepath.Join("..", "..", "build", "chaos")); err != nil {
		return 0, err
	}
	if err := build(programs); err != nil {
		return 0, fmt.Errorf("building the programs: %w", err)
	}
	if pg, err = newPostgresServer(); err != nil {
		return 0, err
	}
	defer func() { err = cmp.Or(err, pg.close()) }()
	code = m.Run()
	faults.print(os.Stdout)
	return code, nil
}

func chooseSeed() (uint64, error) {
	text := os.Getenv("CHAOS_SEED")
	if text == "" {
		return uint64(time.Now().UnixNano() % 1e6), nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("CHAOS_SEED: %w", err)
	}
	return n, nil
}

// build makes the programs with their failpoints; CHAOS_BUILD adds flags, such
// as -race.
func build(dir string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	args := append([]string{"build", "-tags", "failpoint", "-o", dir + string(filepath.Separator)}, strings.Fields(os.Getenv("CHAOS_BUILD"))...)
	cmd := exec.CommandContext(ctx, "go", append(args, "fusillade/cmd/dispatcher", "fusillade/cmd/consumer", "fusillade/cmd/api", "fusillade/cmd/fusillade")...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	return cmd.Run()
}

// choices are a test's own, and the same for the same seed.
func choices(t *testing.T) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
