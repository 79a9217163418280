package batch

// Reason says why an attempt did not complete its request.
type Reason string

// The reasons of failure, and whether each is worth a retry.
const (
	RetriableHTTPStatus    Reason = "retriable_http_status"     // yes
	NonRetriableHTTPStatus Reason = "non_retriable_http_status" // no
	NetworkError           Reason = "network_error"             // yes
	Timeout                Reason = "timeout"                   // yes
	TaskTerminated         Reason = "task_terminated"           // yes: the daemon stopped in the middle of the call
	BuilderError           Reason = "builder_error"             // no: the request cannot be built
	CredentialUnavailable  Reason = "credential_unavailable"    // yes: the API key of the call cannot be had now
	Poisoned               Reason = "poisoned"                  // no: it took its consumer down too often
	BatchExpired           Reason = "batch_expired"             // no
	BatchCancelled         Reason = "batch_cancelled"           // no
)

// Retriable reports whether another attempt may succeed.
func (r Reason) Retriable() bool {
	switch r {
	case RetriableHTTPStatus, NetworkError, Timeout, TaskTerminated, CredentialUnavailable:
		return true
	}
	return false
}
