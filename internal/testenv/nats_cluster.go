package testenv

import (
	"log/slog"
	"testing"

	"fusillade/internal/embedded"
)

// NATSCluster returns three servers that share streams, which are the test's own
// and stop when the test is done.
func NATSCluster(t testing.TB) embedded.NATSCluster {
	t.Helper()
	const servers = 3
	c, err := embedded.StartNATSCluster(embedded.NATSConfig{DataDir: t.TempDir(), Log: logger(t, slog.LevelError)}, servers)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	})
	return c
}
