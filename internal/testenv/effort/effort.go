// Package effort says how much the tests of this process should play.
//
// The race detector makes them ten times as slow, and finds what it looks for in
// a few cases of each kind. What has many cases plays some of them under it, and
// what has one goroutine none: `make test` runs the packages that have most of
// those a second time, without the race detector.
package effort
