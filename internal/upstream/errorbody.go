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
		"insufficient_balance", "exceeded_current_quota_error", "account_deactivated",
	}
	// modelCodes: there is no such model. A gateway that is loading one says
	// something else, or nothing.
	modelCodes = []string{"model_not_found", "deployment_not_found", "deploymentnotfound", "invalid_model"}
	// finalCodes: the request will be refused again.
	finalCodes = []string{
		"invalid_request_error", "invalid_request", "bad_request", "badrequest", "badrequesterror", "bad_request_error", "validation_error",
		"authentication_error", "invalid_api_key", "unauthorized", "permission_error", "permission_denied", "forbidden",
		"not_found_error", "not_found", "notfounderror", "request_too_large", "context_length_exceeded", "string_above_max_length",
		"content_filter", "content_policy_violation", "invalid_prompt", "unsupported_parameter", "unsupported_value", "invalid_value",
		"unprocessable_entity", "unprocessableentityerror", "unsupported_country_region_territory", "invalid_argument",
	}
	// keyCodes: the API key is refused, whatever the status.
	keyCodes = []string{"invalid_api_key", "authentication_error", "account_deactivated", "token_expired"}
	// filterCodes: the prompt is refused, not who sends it.
	filterCodes = []string{
		"content_filter", "content_policy_violation", "content_policy", "moderation", "moderation_blocked", "invalid_prompt",
		"responsibleaipolicyviolation", "data_inspection_failed", "safety", flaggedCode,
	}
	// passingCodes win over a type that calls the request invalid.
	passingCodes = []string{"rate_limit", "too_many_requests", "overloaded", "server_error", "internal", "unavailable", "timeout", "engine", "capacity"}
)

// flaggedCode stands for an error that says what was found in the prompt.
const flaggedCode = "flagged_input"

func hasCode(codes, of []string) bool {
	return slices.ContainsFunc(codes, func(code string) bool { return slices.Contains(of, strings.ToLower(code)) })
}

// fatalReason names the reason of an error that no retry mends for hours; "": it is
// another one.
func fatalReason(codes []string) batch.Reason {
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

// classifyError classifies the value of an "error" under a success status.
func classifyError(value []byte, retried func(status int) bool) verdict {
	if value[0] != '{' {
		// Words, as of engines that are overloaded.
		return verdict{batch.RetriableErrorBody, "an error"}
	}
	m := readMembers(value)
	return classifyErrorMembers(m.all, retried)
}

// classifyErrorMembers goes by the members "code", "type" and "status" of an
// error. What they do not tell is tried again.
func classifyErrorMembers(m map[string][]byte, retried func(status int) bool) verdict {
	var codes []string
	status := 0
	for _, name := range []string{"code", "status", "type"} {
		value := m[name]
		if len(value) == 0 {
			continue
		}
		code := strings.Trim(string(value), `"`)
		if n, err := strconv.Atoi(code); err == nil {
			if status == 0 {
				status = n
			}
			continue
		}
		if code = strings.ToLower(readString(value)); code != "" && code != "error" {
			codes = append(codes, code)
		}
	}
	if reason := fatalReason(codes); reason != "" {
		return verdict{reason, "an error"}
	}
	final, retry := verdict{batch.NonRetriableErrorBody, "an error"}, verdict{batch.RetriableErrorBody, "an error"}
	passing := func(code string) bool {
		return slices.ContainsFunc(passingCodes, func(part string) bool { return strings.Contains(code, part) })
	}
	switch {
	case status >= http.StatusBadRequest && status <= 599:
		if retried(status) {
			return retry
		}
		return final
	case slices.ContainsFunc(codes, passing):
		return retry
	case slices.ContainsFunc(codes, func(code string) bool { return slices.Contains(finalCodes, code) }):
		return final
	}
	return retry
}
