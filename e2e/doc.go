// Package e2e holds tests of the built programs: real processes on loopback,
// killed for real.
package e2e
