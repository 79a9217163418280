// Package dispatch moves requests from Postgres to the stream, as late as it
// can without letting a slot wait.
//
// A lane per model keeps a small window of messages that no consumer has taken
// yet:
//
//	wake ──▶ how full is the window? ──▶ claim ──▶ publish ──▶ confirm
//	 new work, drained work,                │          └ refused: release
//	 changed limit, or the poll             └ ordered by the scheduler
//
// Any number of dispatchers may run: cursors are claimed under row locks that
// others skip, and a message is kept once per request by the stream itself.
// What one of them at a time must do, the leader does.
//
// What a crash leaves behind:
//
//	after the claim, before the publish   a claimed request without a message; the
//	                                      leader returns it to pending after the
//	                                      claim timeout, having looked for its message
//	after the publish, before its ack     the message may exist; the same look finds it
//
// # The leader
//
// Terms:
//
//	leader lock    an advisory lock in Postgres, held by a session
//	term           the time from taking the lock to losing it
//	reaper         the part of the leader that takes back what dead daemons held
//	sweep          its look for requests that should have moved on
//
// Every dispatcher tries the lock each two seconds, and leads while it holds it:
// it writes models' settings to the bucket of slots, creates anew what the broker
// has lost, reaps, sweeps, expires, purges and delivers webhooks. The session is
// one of its own, pinged each second, and Postgres ends it after five seconds of
// silence; the term's context ends when a ping fails.
//
// Invariants:
//
//	I1  A dispatcher acts as the leader only within a term.
//	I2  At most one session holds the lock; Postgres sees to that. Two processes
//	    may still act at once: one that was frozen acts until its next ping.
//	I3  So whatever a leader does is safe to be done twice, at the same time, or
//	    late: each statement checks again, under the locks of its rows, that there
//	    is something to do (the deadline has passed, the daemon is dead, the claim
//	    is the one that was seen), and bucket entries change by compare-and-set.
//	I4  A term needs nothing from the one before: what a leader remembers (term)
//	    only spares it work. A crash at any point leaves work to the next one.
//	I5  No short step waits for a long one: those run beside the loop of the short
//	    ones. A step that fails is logged and tried again at its next tick.
//
// Races:
//
//   - A frozen leader wakes after another has taken over. It finishes the
//     statement it was at, which I3 allows, and learns at its next ping that its
//     term is over.
//   - A dispatcher freezes as soon as it has the lock. The session has the limit of
//     silence from the same statement, so that it ends all the same.
//   - The lock's session dies and its process does not see it: for up to a second
//     nobody leads who knows it, and the lock is free. Another takes it; I3.
//   - A dispatcher claims a request while the leader's sweep holds it for lost.
//     The release is fenced by claim and delivery, so it changes nothing.
//
// Every state of two dispatchers, the lock and a failover of Postgres is explored by
// TestEveryStateOfTheLeaderLock in internal/postgres.
//
// Rejected:
//
//   - A lease in a table, renewed by its holder: as safe as the lock, with a clock
//     to choose and a row that is written each second. The lock goes with its
//     session, at once when a process dies.
//   - The broker's key-value store: after it is lost or restored from a backup
//     there may be two leaders or none, and leading is about Postgres' rows.
//   - No leader, and all dispatchers do everything: safe by I3, and so much more
//     load on Postgres with each dispatcher.
//   - A transaction-level lock: it would keep a transaction open for the term, and
//     with it every dead row.
//
// The lock belongs to a session, so connections must not go through a pooler in
// transaction mode.
package dispatch
