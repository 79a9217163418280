// Package callback calls the program that embeds a consumer of each result that the
// consumer writes: after the commit, or in the transaction.
//
//	finish ──▶ Finish ──commit──▶ queue ──▶ workers ──▶ OnResult ──▶ settle
//	           result and           ▲         a failure waits in         the row goes
//	           a row in callbacks   │         Postgres for its time
//	              OnResultTx      sweep: what is due, and what dead daemons owe
//
// OnResult is called at least once. A row in callbacks is written by the statement
// that writes the result, and goes once the call has returned without an error. What
// a crash leaves:
//
//	before the commit        neither: the request is called again by another consumer
//	after it, before settle  a row of a daemon that is dead soon; a sweep of any
//	                         process with OnResult takes it over, and calls it,
//	                         perhaps again
//
// OnResultTx takes effect exactly once: its statements commit with the result. Where it
// fails, they are rolled back, the result is stored all the same, and a row says that
// the call is owed. It is then made in the transaction that removes the row, until it
// succeeds.
//
// Nothing waits for a slow program but calls that have not begun: results that wait
// for it count as those do which wait for Postgres (consume.Consumer.AddResult).
package callback
