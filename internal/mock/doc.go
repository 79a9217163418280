// Package mock is a model server for demos, tests and benchmarks. It answers
// like OpenAI's API, streamed if it is asked, and its answers, errors and latencies
// depend only on the seed, the request's custom id and how often that custom
// id has been called, so that a run can be repeated.
//
//	POST /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/responses, /v1/moderations,
//	     /v1/images/generations, /v1/images/edits, /v1/messages, /v1/rerank, /rerank, /v2/rerank,
//	     /v1/score, /score, /classify, /pooling
//	GET  /v1/models
//	GET  /stats[?custom_ids=1]   Stats: what was called, and how much at once
//	POST /stats/reset            counts from here on
//	GET  /config                 Settings in force
//	PATCH /config                changes the fields of Settings that it names
//
// Answers fit the types of OpenAI's SDKs. A call gets what it asks for: n choices,
// a text that is cut at max_tokens, a value that is valid for the JSON schema of
// response_format or text.format, a call of the tool that tool_choice demands,
// logprobs.
//
// What real endpoints do beside that is played by Behaviors.
//
// A call counts as in flight from when its body has been read until just
// before its answer is written. So a client that starts its next call on
// receipt of an answer is never seen with one call more than it has.
package mock
