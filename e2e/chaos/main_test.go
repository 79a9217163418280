//go:build chaos && unix

package chaos

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"fusillade/internal/testenv/programs"
)

var (
	built programs.Dir // where the programs under test are
	seed  uint64
	pg    *postgresServer // shared by all tests
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
	// With their failpoints; CHAOS_BUILD adds flags, such as -race.
	if built, err = programs.Build("../..", "chaos", programs.Commands, append([]string{"-tags", "failpoint"}, strings.Fields(os.Getenv("CHAOS_BUILD"))...)...); err != nil {
		return 0, err
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

// choices are a test's own, and the same for the same seed.
func choices(t *testing.T) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(t.Name()))
	return rand.New(rand.NewPCG(seed, h.Sum64()))
}
