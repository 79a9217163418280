// Package control does to batches and files what a user asks for: cancel,
// retry, delete. The command line and the API call it alike.
//
// Each operation is one durable write to Postgres, and then two words to the
// broker that only make it act sooner:
//
//	commit ──▶ purge the messages ──▶ hint
//
// Once committed the operation has succeeded, whatever comes of the rest. What a
// crash or a lost connection leaves behind:
//
//	before the purge   messages of requests that have ended. Nobody need repair
//	                   this: whichever consumer receives one finds no row at its
//	                   start and acks it, without a slot and without a call.
//	                   Until then it takes a place in the dispatch window.
//	before the hint    calls in flight that are in vain; consumers find out at
//	                   their next poll, or when they write the result and are
//	                   fenced off. Requests that are pending again are claimed
//	                   at the next claim interval.
package control
