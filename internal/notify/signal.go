// Package notify wakes a goroutine that waits for something to happen.
package notify

// Signal wakes one waiting goroutine. Notifications that come before it looks
// are one: a Signal says that something happened, never how often. It is safe
// for concurrent use; New makes one.
type Signal struct{ c chan struct{} }

// New returns a Signal that nobody has notified yet.
func New() Signal { return Signal{c: make(chan struct{}, 1)} }

// Notify wakes the goroutine that waits on C, or the next one to do so. It never blocks.
func (s Signal) Notify() {
	select {
	case s.c <- struct{}{}:
	default:
	}
}

// C delivers a value after Notify was called, for use in a select.
func (s Signal) C() <-chan struct{} { return s.c }
