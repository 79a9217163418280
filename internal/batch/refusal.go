package batch

// RefusalCause says why an endpoint refuses every call that is like another one,
// until a person does something.
type RefusalCause string

// The causes of refusals. What each concerns and calls for is in the table below.
const (
	CauseUnauthorized      RefusalCause = "unauthorized"
	CauseQuotaExhausted    RefusalCause = "quota_exhausted"
	CauseConnectionRefused RefusalCause = "connection_refused"
	CauseUnreachable       RefusalCause = "host_unreachable"
	CauseNoSuchHost        RefusalCause = "no_such_host"
	CauseBadCertificate    RefusalCause = "bad_certificate"
	CauseNoTLS             RefusalCause = "no_tls"
	CauseModelNotFound     RefusalCause = "model_not_found"
	CauseNoEndpoint        RefusalCause = "no_endpoint"
	CauseForbidden         RefusalCause = "forbidden"
	CausePaymentRequired   RefusalCause = "payment_required"
	CauseNotFound          RefusalCause = "not_found"
	CauseOther             RefusalCause = "other" // of another release
)

// RefusalScope says which calls a refusal speaks for, beside those with the same
// endpoint and API key.
type RefusalScope int

// The scopes of refusals.
const (
	// ScopeCredential: all of them.
	ScopeCredential RefusalScope = iota
	// ScopeModel: those of the same model.
	ScopeModel
	// ScopeOwner: those of the same model and owner. What the owner asks for may be
	// what is refused, so it must not count against others.
	ScopeOwner
)

// RefusalInfo is what there is to say about a cause.
type RefusalInfo struct {
	Cause  RefusalCause
	Scope  RefusalScope
	Text   string // what is so, as a clause without a full stop
	Advice string // what to do, as a sentence without a full stop
}

// Refusals are all causes, in the order of the documentation.
var Refusals = []RefusalInfo{
	{CauseUnauthorized, ScopeCredential, "the model endpoint refuses the API key", "Correct the API key"},
	{CauseQuotaExhausted, ScopeCredential, "the account at the model endpoint has no quota or credit left", "Check the quota and the billing of the account"},
	{CauseConnectionRefused, ScopeCredential, "the model endpoint refuses connections", "Start the endpoint, or correct its URL"},
	{CauseUnreachable, ScopeCredential, "the network does not reach the model endpoint", "Check the network, and the endpoint's URL"},
	{CauseNoSuchHost, ScopeCredential, "the model endpoint's host name is not known", "Correct the endpoint's URL, or its DNS"},
	{CauseBadCertificate, ScopeCredential, "the model endpoint's certificate is not trusted", "Renew the endpoint's certificate, correct its URL, or have its authority trusted"},
	{CauseNoTLS, ScopeCredential, "the model endpoint does not speak TLS", "Make its URL one of http, not https"},
	{CauseModelNotFound, ScopeModel, "the model endpoint does not have the model", "Correct the model's name, or deploy it"},
	{CauseNoEndpoint, ScopeModel, "there is no endpoint for the model", "Give the model an endpoint, or correct its name"},
	{CauseForbidden, ScopeOwner, "the model endpoint forbids the calls", "Check what the API key may do"},
	{CausePaymentRequired, ScopeOwner, "the model endpoint wants a payment", "Check the credit of the account"},
	{CauseNotFound, ScopeOwner, "the model endpoint does not know the model or the path", "Check the model's name, the url of the lines and the endpoint's URL"},
}

// Info is what there is to say about a cause. One that this release does not know
// has words that fit any.
func (c RefusalCause) Info() RefusalInfo {
	for _, info := range Refusals {
		if info.Cause == c {
			return info
		}
	}
	return RefusalInfo{CauseOther, ScopeCredential, "the model endpoint refuses every call", "Check the endpoint"}
}
