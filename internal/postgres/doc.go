// Package postgres holds all SQL, a file per noun or verb: files, batches,
// claim, start, finish, cancel, expire, retry, delete, purge, results, daemons,
// models.
//
// The write that ends a request is fenced by what the write that began it
// returned:
//
//	Claim   inserts the row        → claim number
//	Start   claim, delivery < n    → the template; the row is processing
//	Finish  claim and delivery     → the row becomes a result, counted and
//	                                 numbered in the same transaction
//
// A writer whose row has moved on in the meantime changes nothing and is told.
package postgres
