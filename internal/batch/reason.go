package batch

import (
	"strconv"
	"strings"
)

// Reason says why an attempt did not complete its request. It is the code of
// the error in the error file.
type Reason string

// The reasons. What each means is in the table below.
const (
	RetriableHTTPStatus    Reason = "retriable_http_status"
	NonRetriableHTTPStatus Reason = "non_retriable_http_status"
	NetworkError           Reason = "network_error"
	Timeout                Reason = "timeout"
	TaskTerminated         Reason = "task_terminated"
	CredentialUnavailable  Reason = "credential_unavailable"
	BuilderError           Reason = "builder_error"
	Poisoned               Reason = "poisoned"
	ResponseUnstorable     Reason = "response_unstorable"
	BatchExpired           Reason = "batch_expired"
	BatchCancelled         Reason = "batch_cancelled"
)

// ReasonInfo is what there is to say about a reason.
type ReasonInfo struct {
	Reason    Reason
	Retriable bool   // another attempt may succeed
	Message   string // for the error file, without its full stop; {status} is the status of the last response
	Doc       string // for the documentation: when it happens
}

// Reasons are all reasons, in the order of the documentation. A new one needs
// its constant and its row here, and then: make readme.
var Reasons = []ReasonInfo{
	{
		RetriableHTTPStatus, true, "The model endpoint answered with status {status}, and no retry was left",
		"The endpoint answered with a status that `FUSILLADE_SHOULD_RETRY` lists.",
	},
	{
		NetworkError, true, "The model endpoint could not be reached, or the connection broke",
		"The endpoint could not be reached, or the connection broke before the whole answer was read.",
	},
	{
		Timeout, true, "The model endpoint did not answer in time",
		"There was no whole answer within `FUSILLADE_TIMEOUT_MS`.",
	},
	{
		TaskTerminated, true, "The process that made the call stopped before it ended",
		"The consumer stopped in the middle of the call.",
	},
	{
		CredentialUnavailable, true, "The API key for the model endpoint could not be read",
		"The key of the call could not be read or decrypted.",
	},
	{
		NonRetriableHTTPStatus, false, "The model endpoint answered with status {status}, which is not retried",
		"The endpoint answered with any other status that is no success.",
	},
	{
		BuilderError, false, "The HTTP request could not be built",
		"The HTTP request cannot be built, or there is no endpoint or key for it.",
	},
	{
		ResponseUnstorable, false, "The model endpoint answered with status {status}, and the database cannot store the answer",
		"Postgres can never store the answer because of its content; the answer is lost.",
	},
	{
		Poisoned, false, "The request stopped the process that worked on it too often",
		"Consumers died or hung in the middle of this request `FUSILLADE_MAX_TAKEOVERS` times.",
	},
	{
		BatchExpired, false, "The batch expired before the request finished",
		"The completion window ended before the request finished.",
	},
	{
		BatchCancelled, false, "The request was cancelled before it finished",
		"The batch or the request was cancelled before it finished.",
	},
}

func (r Reason) info() (ReasonInfo, bool) {
	for _, info := range Reasons {
		if info.Reason == r {
			return info, true
		}
	}
	return ReasonInfo{}, false
}

// Retriable reports whether another attempt may succeed.
func (r Reason) Retriable() bool {
	info, _ := r.info()
	return info.Retriable
}

// Message is what the error file says about the reason, without a full stop.
// status is that of the last response. A reason that this release does not know
// has a message that fits any.
func (r Reason) Message(status int) string {
	info, known := r.info()
	if !known {
		return "The request failed"
	}
	return strings.ReplaceAll(info.Message, "{status}", strconv.Itoa(status))
}
