// Package streams spells every NATS name that fusillade uses: subjects, the
// stream, its consumers, the KV buckets and their keys, as data. No other
// package builds a subject.
//
//	fusillade.requests.<model>.<batch>.<line>   one message per claimed request;
//	                                            fusillade.requests_1.… of the next shard
//	fusillade.hints.work                        there may be new work or new settings
//	fusillade.hints.upstreams                   endpoints or keys of models have changed
//	fusillade.hints.calltimes                   how long the calls of owners take
//	fusillade.hints.drained.<model>             a consumer took work off the stream
//	fusillade.hints.outcomes.<daemon>           the outcomes of calls, for limits that are auto
//	fusillade.hints.cancel.<batch>              requests ended: abort their calls
//
// Hints are plain NATS messages: losing one costs latency, never correctness,
// because a poll stands behind each.
package streams
