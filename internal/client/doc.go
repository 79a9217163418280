// Package client speaks to the HTTP API of package api, for the command line.
//
// A call that returns an object is made once: what the server refuses is an
// *Error, and what did not come through may have been done or not. CreateBatch
// alone is repeated, under an idempotency key. Transfers are taken up again
// where they broke:
//
//	Content ── lines ──▶ writer      a break: again, from the first line not written
//	Watch ── events ──▶ function     a break: again; the first event is the batch as it is
//
// Objects keep the server's own JSON beside the members that are read, so that
// what this package does not know of is not lost.
package client
