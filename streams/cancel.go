package streams

import "fusillade/internal/batch"

// HintCancelAll matches the cancel hints of all batches.
const HintCancelAny = "fusillade.hint.cancel.*"

// HintCancel is the subject by which consumers hear that requests of the batch
// were cancelled and their calls are to be aborted. Without a body the hint is
// about the whole batch; else its body is the decimal line numbers of the
// requests, separated by newlines.
func HintCancel(id batch.ID) string { return "fusillade.hint.cancel." + id.Token() }
