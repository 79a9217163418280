package streams

import (
	"encoding/json"
	"fmt"
	"time"

	"fusillade/internal/batch"
)

// CallTime is how long one owner's calls to one model kept their slots busy in
// one consumer, since it said so last.
type CallTime struct {
	Model batch.Model `json:"model"`
	Owner string      `json:"owner"`
	// Calls began since then.
	Calls int `json:"calls"`
	// Slots is the time of the slots that were in use since then, added up: of
	// calls that have ended, and of those that go on.
	Slots time.Duration `json:"slots_nanoseconds"`
}

// EncodeCallTimes is the body of a hint on HintCallTimes.
func EncodeCallTimes(times []CallTime) ([]byte, error) {
	body, err := json.Marshal(times)
	if err != nil {
		return nil, fmt.Errorf("encoding call times: %w", err)
	}
	return body, nil
}

// ParseCallTimes reads the body of a hint on HintCallTimes. It returns an error
// for what EncodeCallTimes never writes.
func ParseCallTimes(body []byte) ([]CallTime, error) {
	var times []CallTime
	if err := json.Unmarshal(body, &times); err != nil {
		return nil, fmt.Errorf("reading call times: %w", err)
	}
	for _, t := range times {
		if t.Model == "" || t.Calls < 0 || t.Slots < 0 {
			return nil, fmt.Errorf("reading call times: %d calls and %v of model %q", t.Calls, t.Slots, t.Model)
		}
	}
	return times, nil
}
