package pgconnect

import "time"

// SetTimes makes the guard quicker than it is.
func (g *Guard) SetTimes(silence, probe time.Duration) { g.silence, g.probe = silence, probe }

// Watched is how many connections the guard watches.
func (g *Guard) Watched() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.conns)
}
