// Package control changes batches, files and models when a user asks for it:
// cancel, rerun, delete, pause. The API and tests call it alike.
//
// Each operation is one durable write to Postgres, and then two best-effort
// messages to the broker that only make it act sooner:
//
//	commit ──▶ purge the messages ──▶ hint
//
// Once committed the operation has succeeded, whether the rest succeeds or not.
// What a crash or a lost connection leaves behind:
//
//	before the purge   messages of requests that have finished. Nobody need repair
//	                   this: the consumer that receives one finds no row at its
//	                   start and acks it, without a slot and without a call.
//	                   Until then it takes a place in the dispatch window.
//	before the hint    calls in flight that are of no use; consumers find out at
//	                   their next poll, or when they write the result and are
//	                   fenced off. Requests that are pending again are claimed
//	                   at the next claim interval.
package control
