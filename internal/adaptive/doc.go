// Package adaptive finds how many calls an endpoint takes at once: it decides, from
// the outcomes of calls, what the limit is to be. It is arithmetic: no clock, no
// network, no goroutine; internal/slots feeds it and writes what it decides.
//
// # Signals
//
//	congestion  429, 503, 529, timeouts and refused connections say that it is too
//	            much. Calls that began before the last cut say nothing about the
//	            limit after it, so an event cuts once.
//	gain        An engine that queues never refuses. By Little's law throughput is
//	            calls in flight ÷ time per unit of work, so two levels are compared
//	            by
//
//	                gain = ln(X₂/X₁) ÷ ln(n₂/n₁)    X = n ÷ (Σ time ÷ Σ work)
//
//	            It is 1 where throughput grows with the calls in flight, and 0 beyond
//	            the knee, where only latency grows. Work is tokens where that makes
//	            calls more alike than counting them does, so that a mixture of long
//	            and short answers is no noise.
//
// # Phases
//
//	climb   up by a fifth while the gain is full, by less when it is partial; from
//	        the first level without gain, or refused, halving the distance
//	hold    at the best level found. Now and then a step up or down asks whether
//	        that is still so; when the time per work changes by itself, at once
//	cut     to the level before the step that was refused. Of one that was no step,
//	        by as many as were refused: each shows one slot too many. By a quarter
//	        where a large part is refused, as when capacity is halved
//
// A step counts only what began after it, and is compared when the standard error of
// the gain allows it, or after a few latencies. While there are too few requests to
// fill the limit, nothing is learned and nothing raised.
//
// Refusals are a price: after one, steps up wait until it is one in a hundred calls,
// and until the pause that the endpoint asked for is small beside the time since; the
// more probes in a row were refused, the rarer the next. A single one among a hundred
// calls is no congestion: an endpoint may count a call for a moment longer than the
// one who has its answer. An endpoint that fails a share of the calls whatever the
// limit is found out by cuts that do not help; that share is tolerated from then on.
//
// # Sources
//
// Additive increase and multiplicative decrease once per event: RFC 5681. The search
// between the last good level and the lowest bad one: binary increase, Xu, Harfoush
// and Rhee, INFOCOM 2004, and RFC 9438. Judging by delay rather than loss: Vegas,
// Brakmo and Peterson 1995; probing up and down from a plateau: BBR, Cardwell et al.
// 2016. A limit that is not used is not raised: RFC 7661, and Netflix's
// concurrency-limits, which brought these to calls.
package adaptive
