// Package upstream makes one HTTP call to a model endpoint and classifies its
// outcome. It does not retry, does not follow redirects and knows no queue: the
// caller turns the Outcome into a result or a backoff.
//
//	Request ─▶ build ─▶ send ─▶ read ─▶ classify ─▶ Outcome
//	             │        │       │         │
//	             │        └───┬───┘         ├─ ShouldRetry ─▶ retriable_http_status
//	       builder_error      │             ├─ below 400 ───▶ completed
//	                 timeout, task_terminated, └─ else ───────▶ non_retriable_http_status
//	                 network_error
//
// Calls go through net/http. A request is sent again within a call only where
// the endpoint cannot have begun it (see exchange), and a connection is used
// again only if nothing arrived on it that nobody asked for (see conn).
package upstream
