package upstream

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"fusillade/internal/batch"
)

// Codes and types of errors that no retry mends, as endpoints spell them.
var (
	// quotaCodes: the account is exhausted, for hours or until somebody pays.
	quotaCodes = []string{
		"insufficient_quota", "billing_hard_limit_reached", "billing_not_active", "billing_error", "insufficient_credits",
		"insufficient_balance", "exceeded_current_quota_error", "account_deactivated", "budget_exceeded", "insufficientquota", "arrearage",
	}
	// modelCodes: there is no such model. A gateway that is loading one says
	// something else, or nothing.
	modelCodes = []string{"model_not_found", "deployment_not_found", "deploymentnotfound", "invalid_model"}
	// finalCodes: the request will be refused again.
	finalCodes = []string{
		"invalid_request_error", "invalid_request", "bad_request", "badrequest", "badrequesterror", "bad_request_error", "validation_error", "validation",
		"authentication_error", "invalid_api_key", "unauthorized", "permission_error", "permission_denied", "forbidden",
		"not_found_error", "not_found", "notfounderror", "request_too_large", "context_length_exceeded", "string_above_max_length",
		"content_filter", "content_policy_violation", "invalid_prompt", "unsupported_parameter", "unsupported_value", "invalid_value",
		"unprocessable_entity", "unprocessableentityerror", "unsupported_country_region_territory", "invalid_argument",
		// of an image in a request for /v1/responses
		"invalid_image", "invalid_image_format", "invalid_base64_image", "invalid_image_url", "invalid_image_mode", "image_too_large", "image_too_small",
		"image_parse_error", "image_content_policy_violation", "image_file_too_large", "unsupported_image_media_type", "empty_image_file", "image_file_not_found",
	}
	// keyCodes: the API key is refused, whatever the status.
	keyCodes = []string{"invalid_api_key", "authentication_error", "account_deactivated", "token_expired"}
	// filterCodes: the prompt is refused, not who sends it.
	filterCodes = []string{
		"content_filter", "content_policy_violation", "content_policy", "moderation", "moderation_blocked", "invalid_prompt",
		"responsibleaipolicyviolation", "data_inspection_failed", "safety", flaggedCode,
	}
	// passingCodes win over a type that calls the request invalid.
	passingCodes = []string{"rate_limit", "too_many_requests", "overloaded", "server_error", "internal", "unavailable", "timeout", "engine", "capacity", "throttl"}
)

// flaggedCode stands for an error that says what was found in the prompt.
const flaggedCode = "flagged_input"

func hasCode(codes, of []string) bool {
	return slices.ContainsFunc(codes, func(code string) bool { return slices.Contains(of, strings.ToLower(code)) })
}

// creditWords are all by which Anthropic tells an account without credit from a request
// that is wrong: the status is 400, the type invalid_request_error.
const creditWords = "Your credit balance is too low"

// fatalReason names the reason of an error that no retry mends for hours; "": it is
// another one.
func fatalReason(message string, codes []string) batch.Reason {
	if strings.HasPrefix(message, creditWords) {
		return batch.QuotaExhausted
	}
	for _, code := range codes {
		switch code = strings.ToLower(code); {
		case slices.Contains(quotaCodes, code):
			return batch.QuotaExhausted
		case slices.Contains(modelCodes, code):
			return batch.ModelNotFound
		}
	}
	return ""
}

// isNothing holds for the values of "error" that stand beside an answer. An
// object of which every member is empty is one too.
func isNothing(value []byte) bool {
	if isEmpty(value) || value[0] != '{' {
		return isEmpty(value)
	}
	for fields := newFieldScanner(value); ; {
		_, member, ok := fields.next()
		if !ok || !isEmpty(member) {
			return !ok
		}
	}
}

func isEmpty(value []byte) bool {
	switch string(value) {
	case "", "null", "false", `""`, "0":
		return true
	}
	if value[0] != '[' && value[0] != '{' {
		return false
	}
	rest := skipSpace(value[1:])
	return len(rest) > 0 && rest[0] == value[0]+2 // the bracket that closes
}

// isError holds for a JSON object that is an error, or has one.
func isError(object []byte) bool {
	if len(object) == 0 || object[0] != '{' {
		return false
	}
	m := readMembers(object)
	return m.isError() || !isNothing(m.errored)
}

// hasErrorCode holds for an object without an answer that has the status of an
// error in one of its members, or a code that is known, as gateways write it.
func hasErrorCode(m *members) bool {
	status, codes := readCodes(m)
	return status >= http.StatusBadRequest && status <= 599 || fatalReason("", codes) != "" ||
		slices.ContainsFunc(codes, isPassing) || hasCode(codes, finalCodes)
}

// isPassing holds for codes of errors that may pass.
func isPassing(code string) bool {
	return slices.ContainsFunc(passingCodes, func(part string) bool { return strings.Contains(code, part) })
}

// classifyError classifies the value of an "error" under a success status;
// beside are the members beside it.
func classifyError(value []byte, beside *members, retried func(status int) bool) verdict {
	m := errorMembers(value, beside)
	return classifyErrorMembers(&m, retried)
}

// errorMembers are what the value of an "error" says of itself.
func errorMembers(value []byte, beside *members) members {
	if value[0] == '[' {
		value = firstElement(value)
	}
	if value[0] == '{' {
		inner := readMembers(value)
		if nested := inner.errored; len(nested) > 0 && nested[0] == '{' && !isNothing(nested) {
			inner = readMembers(nested) // a gateway's error around that of the endpoint
		}
		return inner
	}
	// Words, as of engines that are overloaded; or a code.
	m := members{code: value}
	if beside != nil {
		m.status, m.statusCode, m.statusUnder, m.kind = beside.status, beside.statusCode, beside.statusUnder, beside.errorType
	}
	return m
}

// refusedStatus is the status of an error that refuses who calls, of an error under
// a success status; 0: it is another error.
func refusedStatus(m *members) int {
	if !isNothing(m.errored) {
		inner := errorMembers(m.errored, m)
		m = &inner
	}
	switch status, _ := readCodes(m); status {
	case http.StatusUnauthorized, http.StatusPaymentRequired, http.StatusForbidden:
		return status
	}
	return 0
}

// readCodes reads what the members of an error say of it: a status, and words.
func readCodes(m *members) (status int, codes []string) {
	for _, value := range [][]byte{m.code, m.status, m.statusCode, m.statusUnder, m.kind, m.errorType, m.errored} {
		if len(value) == 0 {
			continue
		}
		code := strings.Trim(string(value), `"`)
		if n, err := strconv.Atoi(code); err == nil {
			if n >= 100*http.StatusBadRequest && n <= 59999 { // FastChat's 40303 is one of 403
				n /= 100
			}
			if status == 0 {
				status = n
			}
			continue
		}
		if code = strings.ToLower(readString(value)); code != "" && code != "error" {
			codes = append(codes, code)
		}
	}
	return status, codes
}

// classifyErrorMembers goes by the codes, the type and the status of an error.
// What they do not tell is tried again.
func classifyErrorMembers(m *members, retried func(status int) bool) verdict {
	status, codes := readCodes(m)
	if reason := fatalReason("", codes); reason != "" {
		return verdict{reason, "an error"}
	}
	final, retry := verdict{batch.NonRetriableErrorBody, "an error"}, verdict{batch.RetriableErrorBody, "an error"}
	switch {
	case status >= http.StatusBadRequest && status <= 599:
		if retried(status) {
			return retry
		}
		return final
	case slices.ContainsFunc(codes, isPassing):
		return retry
	case hasCode(codes, finalCodes):
		return final
	}
	return retry
}
