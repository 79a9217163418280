package telemetry

import "github.com/prometheus/client_golang/prometheus"

// The values of the label item: what was dropped. The code that adds to one of
// them logs it too. None of them is lost for good: the comment says what brings it
// back.
const (
	DroppedMessage      = "message"  // malformed; nothing does if it was a stranger's, else the claim timeout
	DroppedHint         = "hint"     // malformed; a poll
	DroppedSlots        = "slots"    // a malformed entry; nothing, until it is written anew
	DroppedStart        = "start"    // refused by Postgres for what it holds; a lease
	DroppedResult       = "result"   // not written before the stop, or refused; a lease, and another call
	DroppedResponse     = "response" // refused for what it holds; nothing, the request has failed
	DroppedPublish      = "publish"  // refused by the broker; pending again, a second later
	DroppedClaimRelease = "unclaim"  // not written; the claim timeout
	DroppedAnswer       = "answer"   // an ack or nak that could not be sent; a lease
)

// Drops registers the counter of what was dropped.
func Drops(reg prometheus.Registerer) *prometheus.CounterVec {
	return Counters(reg, "drops_total", "Items dropped, each with a log line; docs/operations.md says what brings each back.", "item")
}

// SpansDropped registers the counter of spans that no collector has.
func SpansDropped(reg prometheus.Registerer) prometheus.Counter {
	return Counter(reg, "spans_dropped_total",
		"Spans that were made and not exported: more came than could be, or the collector was away or rejected them; each with a log line a minute.")
}

// The values of the label write: whose row had a newer owner.
const (
	FencedStart        = "start"
	FencedResult       = "result"
	FencedRetry        = "retry"
	FencedRelease      = "return"
	FencedClaimRelease = "unclaim"
)

// FencedWrites registers the counter of writes that changed nothing.
func FencedWrites(reg prometheus.Registerer) *prometheus.CounterVec {
	return Counters(reg, "fenced_writes_total", "Writes that changed nothing, because the request had ended or has a newer owner.", "write")
}

// The values of the label cause: why a request was taken back.
const (
	MessageLost = "message_lost" // it had no message in the stream
	StaleDaemon = "stale_daemon" // its daemon died, and the leader took it back
	Takeover    = "takeover"     // its daemon died or hung, and another went on with it
)

// Reclaimed registers the counter of requests that were taken back.
func Reclaimed(reg prometheus.Registerer) *prometheus.CounterVec {
	return Counters(reg, "stale_requests_reclaimed_total",
		"Requests taken back: message_lost when their message was gone, stale_daemon by the leader when their daemon died, "+
			"takeover by the daemon that went on with them when it died or hung, counted as they finish: those of stale_daemon are among them.", "cause")
}
