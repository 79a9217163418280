// Package dispatch moves requests from Postgres to the stream, as late as it
// can without letting a slot wait.
//
// A lane per model keeps a small window of messages that no consumer has taken
// yet:
//
//	wake ──▶ how full is the window? ──▶ claim ──▶ publish ──▶ confirm
//	 new work, drained work,                │          └ refused: unclaim
//	 changed limit, or the poll             └ cursors chosen by deadline
//
// Any number of dispatchers may run: cursors are claimed under row locks that
// others skip, and a message is kept once per request by the stream itself.
// What must be done by one of them at a time is done by the holder of an
// advisory lock in Postgres.
//
// What a crash leaves behind:
//
//	after the claim, before the publish   a claimed request without a message; the
//	                                      leader returns it to pending after the
//	                                      claim timeout, having looked for its message
//	after the publish, before its ack     the message may exist; the same look finds it
package dispatch
