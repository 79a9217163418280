package tracing

import (
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"

	"fusillade/internal/batch"
)

// Attributes of spans. Those without our prefix are of OpenTelemetry's semantic
// conventions: https://opentelemetry.io/docs/specs/semconv/. None holds a prompt,
// an answer, a key, metadata of a batch or the name of an owner.
const (
	KeyBatchID    = attribute.Key("fusillade.batch.id")
	KeyFileID     = attribute.Key("fusillade.file.id")
	KeyRequestID  = attribute.Key("fusillade.request.id")
	KeyRequests   = attribute.Key("fusillade.requests") // how many the span is about
	KeyBytes      = attribute.Key("fusillade.bytes")
	KeyClaim      = attribute.Key("fusillade.claim")
	KeyDelivery   = attribute.Key("fusillade.delivery")
	KeyAttempt    = attribute.Key("fusillade.attempt") // counted from 0
	KeyGeneration = attribute.Key("fusillade.generation")
	KeyOutcome    = attribute.Key("fusillade.outcome")
	KeyReason     = attribute.Key("fusillade.reason")

	KeyErrorType     = attribute.Key("error.type")
	KeyServerAddress = attribute.Key("server.address")
	KeyServerPort    = attribute.Key("server.port")

	KeyHTTPMethod      = attribute.Key("http.request.method")
	KeyHTTPRoute       = attribute.Key("http.route")
	KeyHTTPStatus      = attribute.Key("http.response.status_code")
	KeyHTTPResendCount = attribute.Key("http.request.resend_count")

	KeyMessagingSystem        = attribute.Key("messaging.system")
	KeyMessagingDestination   = attribute.Key("messaging.destination.name")
	KeyMessagingOperationName = attribute.Key("messaging.operation.name")
	KeyMessagingOperationType = attribute.Key("messaging.operation.type")

	KeyGenAIOperation     = attribute.Key("gen_ai.operation.name")
	KeyGenAIProvider      = attribute.Key("gen_ai.provider.name")
	KeyGenAIRequestModel  = attribute.Key("gen_ai.request.model")
	KeyGenAIResponseModel = attribute.Key("gen_ai.response.model")
	KeyGenAIInputTokens   = attribute.Key("gen_ai.usage.input_tokens")
	KeyGenAIOutputTokens  = attribute.Key("gen_ai.usage.output_tokens")
	KeyGenAIFinishReasons = attribute.Key("gen_ai.response.finish_reasons")
)

// maxTextBytes bounds what a client or an endpoint chose, such as a model's name.
const maxTextBytes = 256

// Text is an attribute whose value is cut to 256 bytes of valid UTF-8.
func Text(key attribute.Key, value string) attribute.KeyValue { return key.String(Cut(value)) }

// Cut returns the first 256 bytes of a text at most, and no part of a character.
func Cut(s string) string {
	if len(s) <= maxTextBytes {
		return s
	}
	n := maxTextBytes
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Request are the attributes that say which request of which model a span is about.
func Request(id batch.RequestID, model batch.Model) []attribute.KeyValue {
	return []attribute.KeyValue{
		KeyBatchID.String(id.Batch.String()), KeyRequestID.String(id.String()), Text(KeyGenAIRequestModel, string(model)),
	}
}
