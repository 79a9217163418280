// Package webhook delivers events to the endpoints of batches' owners, signed
// as Standard Webhooks and OpenAI's SDKs expect.
//
//	the end of a batch ─▶ webhook_deliveries ─▶ claim ─▶ POST ─┬─ 2xx ──▶ delivered
//	 (one transaction)                           ▲              ├─ else ─▶ backoff ─┐
//	                                             └──────────────┼───────────────────┘
//	                                                            └─ the last one ─▶ given up
//
// The leading dispatcher delivers. What is due is in Postgres, by its clock:
// backoffs survive restarts, and a crash in the middle of an attempt leaves a
// lease that runs out, so that an event is delivered at least once, with the
// same webhook-id each time.
package webhook
