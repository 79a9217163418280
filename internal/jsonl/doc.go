// Package jsonl turns input files (JSONL, as OpenAI's Batch API spells them)
// into templates, and results into the lines of output and error files. Both
// directions are streams: memory depends on the longest line, not on the file.
//
// A Reader is all or nothing from the caller's side. It yields templates until
// the first bad line, then keeps scanning so that one error names every bad
// line; who stores templates as they come must drop them when Next ends in
// anything but io.EOF.
//
//	good ─ good ─ good ─ end of file            → io.EOF: keep
//	good ─ good ─ BAD ─ (scanned, not yielded)  → *InvalidFileError: drop
//	good ─ good ─ source breaks                 → the source's error: drop
package jsonl
