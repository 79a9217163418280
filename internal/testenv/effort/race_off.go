//go:build !race

package effort

// Raced is whether the race detector looks on.
const Raced = false
