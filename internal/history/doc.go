// Package history keeps what was done in each minute of the last day: the leader
// records it, and every process of the API plots it, also after a restart.
//
//	leader: every 15 s ─▶ how far are the batches? ─▶ what was done since ─▶ samples
//	API:                                     samples of the last hour ─▶ plots
//
// It is for plots, and nothing depends on it: what is done between the last look of
// one leader and the first of the next is in no sample.
package history
