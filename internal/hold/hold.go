package hold

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"fusillade/internal/batch"
)

// Key stands for a credential, and is its key in the bucket. It says nothing of
// the API key.
type Key string

// EndpointKey stands for an endpoint that is called with an API key.
func EndpointKey(baseURL, apiKey string) Key { return key("endpoint", baseURL, apiKey) }

// BatchKey stands for an endpoint that is called with a batch's own API key.
func BatchKey(id batch.ID, baseURL string) Key { return key("batch", baseURL, id.String()) }

func key(parts ...string) Key {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return Key(hex.EncodeToString(h.Sum(nil)[:16]))
}

// Hold is a pause of one credential.
type Hold struct {
	// Models are those that are called with the credential, as far as consumers
	// have found out.
	Models []batch.Model
	// Batch is whose own key it is; the zero value: no batch's.
	Batch  batch.ID
	Status int // of the answer that earned it
	Since  time.Time
	Until  time.Time
}

// entry is a Hold as it stands in the bucket.
type entry struct {
	Models []batch.Model `json:"models"`
	Batch  string        `json:"batch_id,omitempty"`
	Status int           `json:"status"`
	Since  time.Time     `json:"since"`
	Until  time.Time     `json:"until"`
}

// maxModels bounds the names in one entry.
const maxModels = 100

// Of reports whether the hold is of requests of the model: of those of this
// batch, if it has its own key, else of those of all batches that have none.
func (h Hold) Of(model batch.Model, id batch.ID, hasOwnKey bool) bool {
	if hasOwnKey != (h.Batch != batch.ID{}) || hasOwnKey && h.Batch != id {
		return false
	}
	return slices.Contains(h.Models, model)
}

// merge returns the hold that both are together.
func (h Hold) merge(other Hold) Hold {
	if other.Until.After(h.Until) {
		h.Until, h.Status = other.Until, other.Status
	}
	if h.Since.IsZero() || !other.Since.IsZero() && other.Since.Before(h.Since) {
		h.Since = other.Since
	}
	h.Batch = other.Batch
	h.Models = slices.Clone(h.Models)
	for _, m := range other.Models {
		if len(h.Models) < maxModels && !slices.Contains(h.Models, m) {
			h.Models = append(h.Models, m)
		}
	}
	return h
}

func (h Hold) encode() []byte {
	raw, err := json.Marshal(entry{h.Models, batchName(h.Batch), h.Status, h.Since.UTC(), h.Until.UTC()})
	if err != nil {
		panic(err) // strings, numbers and times of this century always encode
	}
	return raw
}

func decode(raw []byte) (h Hold, err error) {
	var e entry
	if err := json.Unmarshal(raw, &e); err != nil {
		return Hold{}, fmt.Errorf("decoding a hold: %w", err)
	}
	h = Hold{Models: e.Models, Status: e.Status, Since: e.Since, Until: e.Until}
	if e.Batch != "" {
		if h.Batch, err = batch.ParseID(e.Batch); err != nil {
			return Hold{}, fmt.Errorf("decoding a hold: %w", err)
		}
	}
	return h, nil
}

// batchName is empty for no batch.
func batchName(id batch.ID) string {
	if id == (batch.ID{}) {
		return ""
	}
	return id.String()
}
