package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"fusillade/internal/batch"
)

// DefaultEscalationThreshold is the threshold of an escalation that names none.
const DefaultEscalationThreshold = batch.DefaultEscalationThreshold

// Escalation says where requests for a model go when little time is left.
type Escalation struct {
	Model     batch.Model   // what they are routed to
	Threshold time.Duration // they are when less than this is left before the batch expires; whole seconds
}

// ModelEscalations is the escalation by model.
type ModelEscalations map[batch.Model]Escalation

type escalationJSON struct {
	Model     string `json:"escalation_model"`
	Threshold *int64 `json:"escalation_threshold_seconds"`
}

// String spells the escalations as Set reads them.
func (e ModelEscalations) String() string {
	for model, to := range e {
		if !isShort(model) || !isShort(to.Model) || strings.Contains(string(to.Model), "=") {
			members := make(map[batch.Model]escalationJSON, len(e))
			for model, to := range e {
				seconds := int64(to.Threshold / time.Second)
				members[model] = escalationJSON{Model: string(to.Model), Threshold: &seconds}
			}
			return long(members)
		}
	}
	return short(e, func(to Escalation) string {
		return string(to.Model) + "@" + strconv.FormatInt(int64(to.Threshold/time.Second), 10) + "s"
	})
}

// Set reads gpt-4=o1-preview@900s or
// {"gpt-4":{"escalation_model":"o1-preview","escalation_threshold_seconds":900}}.
// In the short spelling the escalation model follows the last equals sign of
// its element and the threshold the last @, so a model with an @ in its name
// needs a threshold.
func (e *ModelEscalations) Set(text string) error {
	escalations := ModelEscalations{}
	set := func(from, to string, threshold time.Duration) error {
		model, err := modelName(to)
		switch {
		case err != nil:
			return err
		case from == to:
			return fmt.Errorf("has the model %s escalate to itself", quote(from))
		case threshold < time.Second || threshold%time.Second != 0:
			return fmt.Errorf("has the model %s with a threshold that is not whole seconds above zero", quote(from))
		}
		return insert(escalations, from, Escalation{Model: model, Threshold: threshold})
	}
	var err error
	if isJSON(text) {
		err = eachMember(text, func(from string, value json.RawMessage) error {
			to, threshold, err := parseEscalationJSON(value)
			if err != nil {
				return fmt.Errorf("has the model %s with %w", quote(from), err)
			}
			return set(from, to, threshold)
		})
	} else {
		err = eachPair(text, func(element string) (string, string, bool) { return cutLast(element, "=") },
			func(_ int, from, value string) error {
				to, threshold, err := parseEscalation(value)
				if err != nil {
					return fmt.Errorf("has the element %s with %w", quote(from+"="+value), err)
				}
				return set(from, to, threshold)
			})
	}
	if err == nil {
		*e = escalations
	}
	return err
}

func parseEscalation(value string) (to string, threshold time.Duration, err error) {
	to, text, found := cutLast(value, "@")
	if !found {
		return to, DefaultEscalationThreshold, nil
	}
	threshold, err = ParseWindow(strings.TrimSpace(text))
	if err != nil {
		return "", 0, fmt.Errorf("a bad threshold: %w; a model with an @ in its name needs one after it, as in %s@900s", err, value)
	}
	return strings.TrimSpace(to), threshold, nil
}

func parseEscalationJSON(value json.RawMessage) (to string, threshold time.Duration, err error) {
	var member escalationJSON
	decoder := json.NewDecoder(strings.NewReader(string(value)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&member); err != nil {
		return "", 0, errors.New("a value that is not an object of escalation_model and escalation_threshold_seconds")
	}
	if member.Threshold == nil {
		return member.Model, DefaultEscalationThreshold, nil
	}
	seconds := *member.Threshold
	if seconds < 1 || seconds > maxMilliseconds/1000 {
		return "", 0, fmt.Errorf("an escalation_threshold_seconds that is not from 1 to %d", maxMilliseconds/1000)
	}
	return member.Model, time.Duration(seconds) * time.Second, nil
}
