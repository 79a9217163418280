// Package tracing makes the spans of OpenTelemetry.
//
// A request of a batch is one trace, whose id follows from the batch and the line:
// dispatchers and consumers that know nothing of one another agree on it, and
// Postgres keeps nothing per request.
//
//	publish MODEL        dispatcher   the root, of the first claim; links: claim, create batch
//	└─ process MODEL     consumer     one delivery, from its receipt to what was stored
//	   ├─ start          consumer     link: start flush
//	   ├─ chat MODEL     consumer     the call; its context goes to the endpoint
//	   └─ finish         consumer     link: result flush
//
// What works on many requests at once is a trace of its own, with a link to each of
// them that is sampled: claim, start flush, result flush, expire. So is what a
// client asks for: upload file, create batch. The context of create batch is in
// the batch's row, and each request has a link to it.
//
// Whether a request is sampled follows from its trace id, is decided when it is
// published, and carried by its message. A request that is not sampled makes no
// span. A nil *Tracer makes none at all.
package tracing
