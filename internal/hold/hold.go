package hold

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"fusillade/internal/batch"
)

// Key stands for a credential, and is its key in the bucket. It says nothing of
// the API key.
type Key string

// EndpointKey stands for an endpoint that is called with an API key. What else it
// is told of who calls, such as another header for the key, is in credentials:
// the same key means another account with it. Empty: nothing.
func EndpointKey(baseURL, apiKey, credentials string) Key {
	return key(credentials, "endpoint", baseURL, apiKey)
}

// BatchKey stands for an endpoint that is called with a batch's own API key, and
// with credentials as of EndpointKey.
func BatchKey(id batch.ID, baseURL, credentials string) Key {
	return key(credentials, "batch", baseURL, id.String())
}

func key(credentials string, parts ...string) Key {
	if credentials != "" {
		parts = append(parts, credentials)
	}
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%d:%s,", len(p), p)
	}
	return Key(hex.EncodeToString(h.Sum(nil)[:16]))
}

// Call is what a call is made with, and for whom: a hold is of all calls that share
// some of it.
type Call struct {
	Credential Key
	Model      batch.Model
	Owner      string
	Batch      batch.ID // whose own key it is made with; the zero value: no batch's
}

// key is that of the hold of calls which are refused, in the scope.
func (c Call) key(scope batch.RefusalScope) Key {
	switch scope {
	case batch.ScopeModel:
		return key("refused", string(c.Credential), string(c.Model))
	case batch.ScopeOwner:
		return key("refused", string(c.Credential), string(c.Model), c.Owner)
	}
	return key("refused", string(c.Credential))
}

// Hold keeps calls from one credential: for a pause that its endpoint asked for;
// or, with a Cause, because the endpoint refuses every call.
type Hold struct {
	// Models are those that are called with the credential, as far as consumers
	// have found out.
	Models []batch.Model
	// Batch is whose own key it is; the zero value: no batch's.
	Batch  batch.ID
	Status int // of the answer that earned it; 0: there was none
	Since  time.Time
	// Until is when calls may begin again; with a Cause, when the next probe may.
	Until time.Time

	// Cause is why every call is refused; empty: the endpoint asked for a pause.
	Cause  batch.RefusalCause
	Detail string // of the cause, for operators: it may name a host
	Owner  string // whose calls alone are held; empty: everybody's
	Calls  int    // that were refused in a row before it was placed
	Probes int    // that were begun since
}

// forgetAfter is how long after the time of its next probe a hold with a Cause is
// forgotten: nothing was there to be called, or nobody to call it.
const forgetAfter = 10 * time.Minute

// alive reports whether the hold is in force.
func (h Hold) alive(now time.Time) bool {
	if h.Cause != "" {
		return h.Until.Add(forgetAfter).After(now)
	}
	return h.Until.After(now)
}

// entry is a Hold as it stands in the bucket.
type entry struct {
	Models []batch.Model `json:"models"`
	Batch  string        `json:"batch_id,omitempty"`
	Status int           `json:"status"`
	Since  time.Time     `json:"since"`
	Until  time.Time     `json:"until"` // for people, and daemons of earlier releases
	// ForMS is how long after the broker stored the entry Until is; none: an
	// earlier release wrote it. Clocks of machines differ, and the broker's is one.
	ForMS  *int64 `json:"for_ms,omitempty"`
	Cause  string `json:"cause,omitempty"`
	Detail string `json:"detail,omitempty"`
	Owner  string `json:"owner,omitempty"`
	Calls  int    `json:"calls,omitempty"`
	Probes int    `json:"probes,omitempty"`
}

// maxModels bounds the names in one entry.
const maxModels = 100

// Of reports whether the hold is of requests of the model: of those of this
// batch, if it has its own key, else of those of all batches that have none; or
// only of those of the hold's owner.
func (h Hold) Of(model batch.Model, id batch.ID, hasOwnKey bool, owner string) bool {
	if hasOwnKey != (h.Batch != batch.ID{}) || hasOwnKey && h.Batch != id || h.Owner != "" && h.Owner != owner {
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
	if other.Cause != "" {
		h.Cause, h.Detail, h.Owner = other.Cause, other.Detail, other.Owner
		h.Calls, h.Probes = max(h.Calls, other.Calls), max(h.Probes, other.Probes)
	}
	h.Models = slices.Clone(h.Models)
	for _, m := range other.Models {
		if len(h.Models) < maxModels && !slices.Contains(h.Models, m) {
			h.Models = append(h.Models, m)
		}
	}
	return h
}

// encode returns the hold as it is stored now.
func (h Hold) encode(now time.Time) []byte {
	left := h.Until.Sub(now).Milliseconds() + 1 // rather late than early
	raw, err := json.Marshal(entry{
		Models: h.Models, Batch: batchName(h.Batch), Status: h.Status, Since: h.Since.UTC(), Until: h.Until.UTC(), ForMS: &left,
		Cause: string(h.Cause), Detail: h.Detail, Owner: h.Owner, Calls: h.Calls, Probes: h.Probes,
	})
	if err != nil {
		panic(err) // strings, numbers and times of this century always encode
	}
	return raw
}

// decode reads an entry. Its times are by this machine's clock, which the broker's
// is ahead of by so much.
func decode(stored jetstream.KeyValueEntry, ahead time.Duration) (h Hold, err error) {
	var e entry
	if err := json.Unmarshal(stored.Value(), &e); err != nil {
		return Hold{}, fmt.Errorf("decoding a hold: %w", err)
	}
	if e.ForMS != nil {
		until := stored.Created().Add(time.Duration(*e.ForMS) * time.Millisecond).Add(-ahead)
		e.Since = e.Since.Add(until.Sub(e.Until))
		e.Until = until
	}
	h = Hold{
		Models: e.Models, Status: e.Status, Since: e.Since, Until: e.Until,
		Cause: batch.RefusalCause(e.Cause), Detail: e.Detail, Owner: e.Owner, Calls: e.Calls, Probes: e.Probes,
	}
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
