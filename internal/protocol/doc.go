// Package protocol is an executable model of the life of a request: claim, publish,
// deliver, start, call, finish, retry, release, reclaim, cancel, expire and rerun,
// by two dispatchers and two consumers that crash, freeze, hang and stop, over a
// broker that loses, repeats, forgets and goes back in time. Explore looks at every
// state that such a system can reach. It is for tests; nothing else imports it.
//
// # Where things are
//
//	explore.go    Explore: every state of any model, breadth first, with the trace
//	              to what is broken, and liveness
//	model.go      Config, which bounds the faults; the invariants; all steps of a state
//	state.go      State: the tables, the messages, what processes remember
//	statement.go  the statements of internal/postgres about requests
//	batch.go      those about batches
//	guard.go      Guard: each condition that fences, by the name that it has in
//	              e2e/mutations, to be taken out
//	dispatch.go   what dispatchers do with a claim
//	consume.go    what consumers do with a message, and what becomes of them
//	lead.go       the leader: reap, sweep, expire, go on with cancels
//	broker.go     leases, losses, backoffs, the processing timeout
//	change.go     what people ask for
//	late.go       writes that arrive when nobody waits for them any more
//	record.go     what a step does in Postgres, for internal/postgres, whose tests
//	              make the steps of random traces on real tables
//
// # What a step is
//
// A statement is one step, as it is for Postgres, and so is what a process does
// between two waits. What may be lost, or come late, on the way is a fault of the
// step: the same step with another Detail. Time has no number: a lease, a backoff,
// a heartbeat or a deadline ends in a step that may be made at any moment that the
// code allows for.
//
// Identities matter where the statements look at them. So a daemon is a record, a
// process and its tasks, and a dispatcher is what it has under way: one that froze
// is one that takes no step, and one that crashed is an intention that is gone. The
// leader lock is not there at all: any dispatcher may do what leaders do, two of
// them at the same time, which is more than the lock allows (internal/dispatch, I3).
// The lock itself is explored in internal/postgres.
//
// # What is true of a task, and not in its row
//
// Whether a write is its owner's cannot be read from the numbers that fence it, or
// nothing would be proved. So a task bears a Title, and a request the mark Called,
// which the steps keep up as they take a request from one to another, and which no
// guard reads. The invariants compare the two: a write that matches is its
// owner's, and an owner's matches.
//
// # Left out
//
//   - slots, rates, holds, pauses and the window: they decide when a call may begin,
//     and here it may begin at any time;
//   - the scheduler: any request that may be claimed may be the next;
//   - escalation, own keys, bodies, results' places in the output, several models;
//   - deletion and purge, which cancel first;
//   - flushes of several requests: a transaction of several is as good as one of
//     each, since it holds their locks;
//   - a Postgres that loses what it has acknowledged, but for starts.
//
// Numbers of deliveries that are further apart than two are the same as two.
package protocol
