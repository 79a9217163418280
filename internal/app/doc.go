// Package app wires the parts into daemons. The binaries of a cluster and
// the single process of `fusillade run` run the same code through it, on
// other connections.
package app
