package dispatch

import (
	"context"
	"time"

	"fusillade/internal/batch"
	"fusillade/internal/slots"
)

// automaticAge is how long a lane uses an automatic limit before it reads it again.
// A window that is behind for so long is a little smaller than it may be, or larger.
const automaticAge = 500 * time.Millisecond

// automatic is a limit that the consumers find, as a lane last read it.
type automatic struct {
	limit int
	read  time.Time
}

// limitNow is the number that a limit comes to now, which for an automatic one the
// entry of the model says. Until it can be read it is the last one that could be, or
// the lowest.
func (l *lane) limitNow(ctx context.Context, set batch.Limit) int {
	least, most, auto := set.Auto()
	if !auto {
		l.automatic = automatic{}
		return int(set)
	}
	if now := time.Now(); now.Sub(l.automatic.read) >= automaticAge {
		l.automatic.read = now
		ctx, cancel := context.WithTimeout(ctx, brokerTimeout)
		defer cancel()
		if n, err := slots.Limit(ctx, l.d.slots, l.model); err == nil {
			l.automatic.limit = n
		} else if ctx.Err() == nil {
			l.d.cfg.Log.Debug("an automatic limit could not be read", "model", l.model, "err", err)
		}
	}
	return min(max(l.automatic.limit, least), most)
}
