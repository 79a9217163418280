// Package api serves OpenAI's Files and Batches API over the tables of package
// postgres. It makes no calls to models and needs no broker: it writes what is
// to be done, and the dispatchers do it.
//
//	request ─▶ guard: id, panics, deadlines ─▶ routes ─▶ who: the key's owner ─▶ handler
//	response ◀──────── JSON, or a stream of lines ◀───────────────────────────────┤
//	         ◀──────── {"error": {…}} ◀── fail: the one place for errors ◀────────┘
//
// Everything belongs to an owner. What belongs to another is not found, so
// that ids can't be probed.
//
// An upload goes part by part from the connection to COPY, and a download page
// by page from Postgres to the connection: memory depends on neither. A client
// that stops reading or writing is cut off, and nothing remains of an upload
// that did not end.
//
// Input files are made again from the stored requests: each body is byte for
// byte what was uploaded; the object around it is written anew. Output and
// error files are no rows at all but views of a batch's results, named by the
// batch's id (batch.ResultFile).
package api
