package upstream

// Target is where a model's calls go, and with which key.
type Target struct {
	BaseURL string
	APIKey  string
	// Unusable says why no call can be made now without a key of the batch's own,
	// or, where BaseURL is empty, none at all; nothing secret is in it. Empty:
	// calls can be made.
	Unusable string
	// Unproven says why no batch's own key may be sent to BaseURL; empty: it may.
	Unproven string
}
