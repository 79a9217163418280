// Package checker reads a batch's tables and says where they contradict what
// must hold at every instant, so that a test can ask after each of its steps.
// It shares no SQL with the code under test.
//
//	each line of the file   pending, live or ended: one of the three
//	cursors                 pending = lines beyond them
//	requests                in progress = their rows; none in a finished batch
//	results                 the counters = their rows; seq is 0..n-1, next_seq n
//
// A result never changes once it is written: Snapshot keeps what there is, and
// Unchanged compares.
package checker
