// Package consume takes requests off the stream, makes their calls and stores
// the results. A file is a stage:
//
//	receive ──▶ start ──▶ schedule ──▶ call ──▶ finish
//	 pull        batched    ready,       one     batched write, then the answer
//	             write      slot+place   call    to the broker
//	              │ stale: ack   │ drain, pause,   │ complete, fail: ack
//	              │ busy, early: │ hold: release   │ retry, release: nak with delay, or
//	              ▼ nak          ▼                 │   due in Postgres and ack (share.go)
//	                                               ▼ fenced: leave it to the lease
//
// inflight.go holds what is on this way, and lease.go says whose lease is to be
// renewed; cancel.go takes out what has finished elsewhere: its call is cut off, and
// nothing is written.
//
// A pool is one model in one consumer. Each pool has a loop that pulls its
// messages; two flushes of starts and two of results run beside one another,
// and each call has a goroutine. A task belongs to one of them at a time.
//
// A message is leased: it is renewed after two fifths of the lease while the consumer
// works on it, and redelivered by the broker if the consumer dies. Postgres
// decides who owns a request; what the broker says is advisory.
//
// What Postgres refuses ends a request only if it is content that the endpoint
// sent; all else is tried again, apart from what it does not concern (flush.go,
// unstored.go). Memory is bounded: requests' bodies, and results that wait to be
// stored, in bytes; messages by number.
//
// What a crash leaves behind:
//
//	before start            nothing; the lease runs out, another consumer starts it
//	after start             the row is processing; the next delivery starts it again
//	                        once its daemon is dead by Postgres's own record
//	after finish, no ack    the row is gone, or due for a new claim; the next
//	                        delivery is acked unseen
package consume
