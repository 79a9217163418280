package seal

import "strconv"

// What secrets are bound to. A part that anybody chooses is quoted, so that no two
// things have the same text.

// ModelKey is the API key of a model at an endpoint: who can change the URL in
// the database, or how it is spoken to, gets no key sent there. An empty URL is
// the environment's; empty options are none. A key may be empty: it proves that
// who has an encryption key chose URL and options.
func ModelKey(model, url, options string) string {
	return "key of model " + strconv.Quote(model) + " at " + strconv.Quote(url) + with(options)
}

// ModelHeaders are the headers that are sent to the endpoint of a model.
func ModelHeaders(model, url, options string) string {
	return "headers of model " + strconv.Quote(model) + " at " + strconv.Quote(url) + with(options)
}

func with(options string) string {
	if options == "" {
		return ""
	}
	return " with " + strconv.Quote(options)
}

// BatchKey is the API key that a batch brought.
func BatchKey(batchID string) string { return "key of batch " + batchID }

// BatchKeyFingerprint tells the API key of a batch from another.
func BatchKeyFingerprint(batchID string) string { return "fingerprint of the key of batch " + batchID }

// WebhookSecret is what an endpoint's events are signed with.
func WebhookSecret(webhookID, url string) string {
	return "secret of webhook " + webhookID + " at " + strconv.Quote(url)
}
