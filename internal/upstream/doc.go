// Package upstream makes one HTTP call to a model endpoint and says what came
// of it. It does not retry, does not follow redirects and knows no queue: the
// caller turns the Outcome into a result or a backoff.
//
//	Request ─▶ build ─▶ send ─▶ read ─▶ classify ─▶ Outcome
//	             │        │       │         │
//	             │        └───┬───┘         ├─ ShouldRetry ─▶ retriable_http_status
//	       builder_error      │             ├─ below 400 ───▶ completed
//	                 timeout, task_terminated, └─ else ───────▶ non_retriable_http_status
//	                 network_error
//
// The transport opens a second connection for a call in one case only: the
// first was found closed before a single byte of the request had been written
// to it. A request that the upstream may have seen is never sent again.
package upstream
