// Package checker reads a batch's tables and says where they contradict what
// must hold at every instant, so that a test can ask after each of its steps.
// It shares no SQL with the code under test.
//
//	each line of the file   pending, live or ended: one of the three
//	cursors                 pending = lines beyond them
//	requests                in progress = their rows; none in a finished batch
//	results                 the counters = their rows and the skipped lines; seq has
//	                        no gap but where lines were skipped or retried
//
// A result never changes once it is written, but by an explicit retry: Snapshot
// keeps what there is, and Unchanged compares. Erased looks for what is left of
// a batch that was purged.
package checker
