package localrun

import (
	"context"
	"time"

	"fusillade/internal/app"
)

const dialTimeout = 10 * time.Second

// Reachable finds out before any work is done whether the endpoints take
// connections at all. The built-in mock always does.
func (c Config) Reachable(ctx context.Context) error {
	if c.Mock != nil {
		return nil
	}
	for _, e := range app.Endpoints(&c.Settings.Upstream) {
		if err := e.Reach(ctx); err != nil {
			return err
		}
	}
	return nil
}
