package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

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

const (
	maxErrorBody    = 64 << 10
	maxMessageBytes = 512
)

// refusalOf tells whether an answer that is no success, for a reason, speaks for
// more than its request; nil: it refuses only that, or only now.
//
// It goes by the status and by known codes alone. A 400 never speaks for other
// requests, whatever it says, nor does a 403 of a content filter.
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

// readError reads an error as OpenAI and those who follow it write it: an
// object or a text in "error", or the members of that object at the top; Google
// puts them into an array. An error that says what was found in the prompt has
// the code flaggedCode too.
func readError(body []byte) (message string, codes []string) {
	type members struct {
		Message  json.RawMessage `json:"message"`
		Type     json.RawMessage `json:"type"`
		Code     json.RawMessage `json:"code"`
		Detail   json.RawMessage `json:"detail"` // FastAPI's word for message
		Metadata struct {
			Flagged json.RawMessage `json:"flagged_input"` // of OpenRouter's moderation
		} `json:"metadata"`
	}
	var answer struct {
		Error json.RawMessage `json:"error"`
		members
	}
	if len(body) > maxErrorBody {
		return "", nil
	}
	if trimmed := skipSpace(body); len(trimmed) > 0 && trimmed[0] == '[' {
		body = firstElement(trimmed)
	}
	if json.Unmarshal(body, &answer) != nil {
		return "", nil
	}
	m := answer.members
	if len(answer.Error) > 0 && json.Unmarshal(answer.Error, &m) != nil {
		m.Message = answer.Error
	}
	for _, raw := range []json.RawMessage{m.Type, m.Code} {
		var code string
		if json.Unmarshal(raw, &code) == nil {
			codes = append(codes, code)
		}
	}
	if len(m.Metadata.Flagged) > 0 {
		codes = append(codes, flaggedCode)
	}
	if json.Unmarshal(m.Message, &message) != nil || message == "" {
		_ = json.Unmarshal(m.Detail, &message)
	}
	return strings.Join(strings.Fields(text(message, maxMessageBytes)), " "), codes
}
