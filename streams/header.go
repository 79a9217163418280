package streams

// Headers of a request's message. The message has no body: the prompt stays
// in Postgres and is fetched by the start.
const (
	HeaderRequestID = "Fusillade-Request-Id"
	HeaderModel     = "Fusillade-Model" // the routed model, in plain text
	HeaderClaim     = "Fusillade-Claim"
	HeaderAttempt   = "Fusillade-Attempt"  // 0-based, as of the claim; the row is the authority
	HeaderDeadline  = "Fusillade-Deadline" // RFC 3339, when the batch expires
	// HeaderTrace carries the traceparent of W3C Trace Context, where dispatchers
	// make spans. It does not
	// bear that name in the stream, because the server would look into the
	// headers of every message that does, for traces of its own.
	HeaderTrace = "Fusillade-Traceparent"
	// HeaderTraceState carries its tracestate, if it has one.
	HeaderTraceState = "Fusillade-Tracestate"
	// HeaderBatchPrefix precedes batch metadata, which the consumer passes on
	// to the upstream.
	HeaderBatchPrefix = "x-fusillade-batch-"
)
