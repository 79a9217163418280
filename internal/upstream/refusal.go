package upstream

import (
	"fmt"
	"net/http"

	"fusillade/internal/batch"
)

// Refusal says why an endpoint answers no request at all, or none with this
// credential or for this model: what comes next will end likewise until a
// person does something.
type Refusal struct {
	Kind    batch.RefusalCause
	Status  int    // of the answer; 0: there was none
	Cause   string // safe to log, and for operators' eyes: it may name a host
	Message string // the endpoint's own words; empty: none. Part of an answer: for the owner's eyes only
}

// refusalOf tells whether an answer that is no success, for a reason, speaks for
// more than its request; nil: it refuses only that, or only now.
//
// It goes by the status and by known codes alone. A 400 speaks for other requests
// only if a quota is used up, and a 403 of a content filter never does.
func refusalOf(status int, reason batch.Reason, message string, codes []string) *Refusal {
	kind := batch.RefusalCause("")
	switch {
	case reason == batch.QuotaExhausted:
		kind = batch.CauseQuotaExhausted
	case reason == batch.ModelNotFound:
		kind = batch.CauseModelNotFound
	case status == http.StatusUnauthorized, status == http.StatusForbidden && hasCode(codes, keyCodes):
		kind = batch.CauseUnauthorized
	case status == http.StatusForbidden && !hasCode(codes, filterCodes):
		kind = batch.CauseForbidden
	case status == http.StatusPaymentRequired:
		kind = batch.CausePaymentRequired
	case status == http.StatusNotFound:
		kind = batch.CauseNotFound
	default:
		return nil
	}
	return &Refusal{Kind: kind, Status: status, Cause: fmt.Sprintf("status %d", status), Message: message}
}
