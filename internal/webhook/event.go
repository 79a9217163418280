package webhook

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"

	"fusillade/internal/batch"
	"fusillade/internal/postgres"
)

const (
	secretPrefix = "whsec_"
	secretBytes  = 32
	// TestType is the type of the event that a test delivers, about no batch.
	TestType = "batch.completed"
)

// NewSecret makes what an endpoint's events are signed with.
func NewSecret() string {
	var raw [secretBytes]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	return secretPrefix + base64.StdEncoding.EncodeToString(raw[:])
}

// CheckURL says what is wrong with an endpoint's URL. Its addresses are checked
// at each delivery.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("is not a URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("does not begin with https:// or http://")
	case u.Hostname() == "":
		return fmt.Errorf("has no host")
	case u.User != nil:
		return fmt.Errorf("must hold no user or password")
	case u.Fragment != "":
		return fmt.Errorf("must hold no fragment")
	}
	return nil
}

// event is OpenAI's.
type event struct {
	ID        string    `json:"id"`
	Object    string    `json:"object"`
	CreatedAt int64     `json:"created_at"` // seconds
	Type      string    `json:"type"`
	Data      eventData `json:"data"`
}

type eventData struct {
	ID string `json:"id"`
}

// eventID is the webhook-id too.
func eventID(d postgres.WebhookDelivery) string { return "evt_" + d.Event }

// eventType is what OpenAI calls the end of a batch. A batch of which every
// request failed is completed there, as the API shows it.
func eventType(d postgres.WebhookDelivery) string {
	if d.Type == "batch."+string(batch.StatusFailed) {
		return "batch." + string(batch.StatusCompleted)
	}
	return d.Type
}

func body(d postgres.WebhookDelivery) ([]byte, error) {
	return json.Marshal(event{
		ID: eventID(d), Object: "event", CreatedAt: d.CreatedAt.Unix(), Type: eventType(d), Data: eventData{ID: d.Batch.String()},
	})
}
