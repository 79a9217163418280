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
	NotFound               Reason = "not_found"
	NotImplemented         Reason = "not_implemented"
	LocalError             Reason = "local_error"
	NoAnswer               Reason = "no_answer"
	MalformedAnswer        Reason = "malformed_answer"
	UnexpectedStream       Reason = "unexpected_stream"
	BinaryAnswer           Reason = "binary_answer"
	UnknownEncoding        Reason = "unknown_encoding"
	Redirected             Reason = "redirected"
	RetriableErrorBody     Reason = "retriable_error_body"
	NonRetriableErrorBody  Reason = "non_retriable_error_body"
	ResponseIncomplete     Reason = "response_incomplete"
	ResponseUnfinished     Reason = "response_unfinished"
	ResponseFailed         Reason = "response_failed"
	QuotaExhausted         Reason = "quota_exhausted"
	ModelNotFound          Reason = "model_not_found"
	BatchExpired           Reason = "batch_expired"
	BatchCancelled         Reason = "batch_cancelled"
	BudgetExceeded         Reason = "budget_exceeded"
)

// ReasonInfo is what there is to say about a reason.
type ReasonInfo struct {
	Reason    Reason
	Retriable bool // another attempt may succeed
	// MaxRetries bounds the retries after attempts that end so, whatever is
	// configured: they rarely succeed, and cost as much as others. 0: no bound.
	MaxRetries int
	Message    string // for the error file, without its full stop; {status} is the status of the last response
	Doc        string // for the documentation: when it happens
}

// Reasons are all reasons, in the order of the documentation. A new one needs
// its constant and its row here, and then: make readme.
var Reasons = []ReasonInfo{
	{
		RetriableHTTPStatus, true, 0, "The model endpoint answered with status {status}, and no retry was left",
		"The endpoint answered with a status that `FUSILLADE_SHOULD_RETRY` lists, other than 404, or with an error and `X-Should-Retry: true`.",
	},
	{
		NetworkError, true, 0, "The model endpoint could not be reached, or the connection broke",
		"The endpoint could not be reached, or the connection broke before the whole answer was read.",
	},
	{
		Timeout, true, 0, "The model endpoint did not answer in time",
		"There was no whole answer within `FUSILLADE_TIMEOUT_MS`; of a streamed one, no first or no further part within its own timeouts.",
	},
	{
		TaskTerminated, true, 0, "The process that made the call stopped before it ended",
		"The consumer stopped in the middle of the call.",
	},
	{
		CredentialUnavailable, true, 0, "The API key for the model endpoint could not be read",
		"The key of the call could not be read or decrypted.",
	},
	{
		NonRetriableHTTPStatus, false, 0, "The model endpoint answered with status {status}, which is not retried",
		"The endpoint answered with any other status that is no success, or with an error and `X-Should-Retry: false`.",
	},
	{
		NotFound, true, 60, "The model endpoint answered with status 404: it doesn't know the model or the path",
		"The endpoint answered with 404, as gateways do while a model is loading. It is retried at most `FUSILLADE_MAX_NOT_FOUND_RETRIES` times.",
	},
	{
		NotImplemented, true, 10, "The model endpoint answered with status 501: it does not do what the request asks for",
		"The endpoint answered with 501, as an engine does that was started without what the request needs. It is retried at most 10 times.",
	},
	{
		RetriableErrorBody, true, 0, "The model endpoint answered with status {status} and an error in the body, and no retry was left",
		"The body of a success is an error that may pass: a rate limit, an overload, a server's error.",
	},
	{
		NoAnswer, true, 10, "The model endpoint answered with status {status} and without an answer",
		"The body of a success is empty, or the status is one without an answer (101, 202, 204, 205, 206, 304 and the like). It is retried at most 10 times.",
	},
	{
		MalformedAnswer, true, 10, "The model endpoint answered with status {status}, and the body is not an answer to such a request",
		"The body of a success is no JSON object with the member that carries the answer, such as a page of HTML, or has not one element for each input, as embeddings must. It is retried at most 10 times.",
	},
	{
		LocalError, true, 0, "The process that made the call had no file descriptors or ports left",
		"The consumer ran out of file descriptors, ports or memory for sockets. It costs no attempt.",
	},
	{
		QuotaExhausted, false, 0, "The account at the model endpoint has no quota or credit left (status {status})",
		"The endpoint's error says that the quota or the credit of the account is used up.",
	},
	{
		ModelNotFound, false, 0, "The model endpoint does not have the model (status {status})",
		"The endpoint's error says that there is no such model.",
	},
	{
		NonRetriableErrorBody, false, 0, "The model endpoint answered with status {status} and an error in the body that is not retried",
		"The body of a success is an error that another attempt would meet again.",
	},
	{
		UnexpectedStream, false, 0, "The model endpoint answered with a stream of events, which is not read",
		"The body of a success is an event stream that the request did not ask for, or several JSON objects.",
	},
	{
		BinaryAnswer, false, 0, "The model endpoint answered with audio, an image or other binary content, which a line of JSON cannot hold",
		"The body of a success is binary by its Content-Type, as that of `/v1/audio/speech`.",
	},
	{
		UnknownEncoding, false, 0, "The model endpoint answered in an encoding that is not known",
		"The body of a success has a Content-Encoding other than gzip, deflate, br, zstd and identity.",
	},
	{
		Redirected, false, 0, "The model endpoint redirected the request (status {status}) to a place that it is not sent to",
		"The endpoint redirected to another host, or in a way that loses the request; only 307 and 308 to the same scheme and host, or from http to https of the same host, are followed.",
	},
	{
		ResponseIncomplete, false, 0, "The model's response is incomplete",
		"The response of `/v1/responses` has the status `incomplete`: a limit of tokens or a content filter ended it.",
	},
	{
		ResponseUnfinished, false, 0, "The model endpoint answered before the response was finished",
		"The response of `/v1/responses` has the status `queued` or `in_progress`, as after `background`.",
	},
	{
		ResponseFailed, false, 0, "The model's response failed",
		"The response of `/v1/responses` has the status `failed` or `cancelled`, and its error does not say that it may pass.",
	},
	{
		BuilderError, false, 0, "The HTTP request could not be built",
		"The HTTP request cannot be built, or there is no endpoint or key for it.",
	},
	{
		ResponseUnstorable, false, 0, "The model endpoint answered with status {status}, and the database cannot store the answer",
		"Postgres can never store the answer because of its content; the answer is lost.",
	},
	{
		Poisoned, false, 0, "The request stopped the process that worked on it too often",
		"Consumers died or hung in the middle of this request `FUSILLADE_MAX_TAKEOVERS` times.",
	},
	{
		BatchExpired, false, 0, "The batch expired before the request finished",
		"The completion window ended before the request finished.",
	},
	{
		BatchCancelled, false, 0, "The request was cancelled before it finished",
		"The batch or the request was cancelled before it finished.",
	},
	{
		BudgetExceeded, false, 0, "The budget of the batch was spent before the request finished",
		"The [budget](operations.md#budget) of the batch was spent before the request finished.",
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

// Attempt is what Message says, of an attempt after which the request goes on.
func (r Reason) Attempt(status int) string {
	message, _, _ := strings.Cut(r.Message(status), ", and no retry was left")
	message, _, _ = strings.Cut(message, ", which is not retried")
	return message
}
