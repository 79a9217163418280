// Package consume takes requests off the stream, makes their calls and writes
// what came of them.
//
//	pull ──▶ start (batched) ──▶ ready ──▶ slot ──▶ call ──▶ finish (batched) ──▶ ack
//	           │ stale: ack        │                  │          │ retry: nak with delay
//	           │ busy, early: nak  └ drain: give back ┘          │ fenced: leave it to the lease
//
// A message in hand is leased: it is renewed every third of the lease while
// the consumer works on it, and redelivered by the broker if the consumer
// dies. Postgres decides who owns a request; the broker's word is only a hint.
//
// What has ended elsewhere, because it was cancelled, is dropped wherever it is
// on this way: its call is cut off, and nothing is written.
//
// What a crash leaves behind:
//
//	before start            nothing; the lease runs out, another consumer starts it
//	after start             the row is processing; the next delivery starts it again
//	                        once its daemon is dead by Postgres's own record
//	after finish, no ack    the row is gone; the next delivery is acked unseen
package consume
