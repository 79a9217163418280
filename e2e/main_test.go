package e2e

import (
	"testing"

	"fusillade/internal/testenv/programs"
)

// built is where the programs under test are.
var built programs.Dir

func TestMain(m *testing.M) {
	programs.Main(m, &built, func() (programs.Dir, error) { return programs.Build("..", "e2e", programs.Commands) })
}
