// Package telemetry holds what the metrics of several packages have in common:
// registration that outlives a daemon, a bound on labels that name models, and
// the counters to which more than one package adds.
//
// Each package that measures has a struct of its own in metrics.go, made with
// the registerer that its Config was handed; without one it counts all the same
// and nobody sees it.
package telemetry
