// Package resolver knows where calls go and with which API key: what operators
// have set for a model, else what the environment says; and the keys that
// batches brought. Keys are decrypted here, in the process that makes the calls,
// and kept in memory only.
//
//	models set ──▶ Postgres ──┬─ hint ──▶ Load ──▶ Resolve(model)
//	                          └─ every 5 s ┘
//	batch's key ─▶ Postgres ──── once per batch and minute ──▶ BatchKey
package resolver
