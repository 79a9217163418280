// Package localrun does everything in one process, on one machine: it runs a
// file of requests and writes every result (Run), or serves the API and works
// on its batches (Serve). Postgres and the broker are embedded, unless a
// database is given; the code is the cluster's, on other connections.
//
//	Run:    input ──▶ file ──▶ batch ──▶ dispatcher and consumer ──▶ output
//	           (by its content)             until the batch has ended
//
// Everything that must outlive the process is in Postgres. A crash at any
// instant leaves the file or the batch as far as it came; the same command
// finds it by the content of its input and goes on.
package localrun
