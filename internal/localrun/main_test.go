package localrun

import (
	"testing"

	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }
