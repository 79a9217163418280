// Package upstream makes one HTTP call to a model endpoint and classifies its
// outcome. It does not retry and knows no queue: the
// caller turns the Outcome into a result or a backoff.
//
//	Request ─▶ build ─▶ send ─▶ read, decode ─▶ check ─▶ Outcome
//	             │        │          │            │
//	       builder_error  └────┬─────┘            ├─ an answer ────▶ completed
//	                    timeout, task_terminated, └─ anything else ▶ one of batch.Reasons
//	                    network_error, local_error
//
// A request may ask for a streamed answer, by itself or because its Options say
// so. Its events are folded into the object that the endpoint would have answered
// without a stream (see folder), which is then checked like any other; a stream that
// ends before the answer does is a broken connection.
//
// A success status does not make an answer: the body does (see checkAnswer). 307 and
// 308 are followed to the same host; the key goes nowhere else.
//
// Calls go through net/http. A request is sent again within a call only where
// the endpoint cannot have begun it (see exchange), and a connection is used
// again only if nothing arrived on it that nobody asked for (see conn).
package upstream
