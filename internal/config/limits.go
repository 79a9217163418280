package config

import (
	"encoding/json"
	"fmt"
	"strconv"

	"fusillade/internal/batch"
)

// MaxModelLimit is the highest limit that a model may have.
const MaxModelLimit = 1_000_000

// ModelLimits is the most calls in flight by model.
type ModelLimits map[batch.Model]int

// String spells the limits as Set reads them.
func (l ModelLimits) String() string {
	for model := range l {
		if !isShort(model) {
			return long(l)
		}
	}
	return short(l, strconv.Itoa)
}

// Set reads gpt-4=5,llama3:70b=20 or {"gpt-4":5}. In the short spelling the
// limit follows the last equals sign of its element.
func (l *ModelLimits) Set(text string) error {
	limits := ModelLimits{}
	set := func(name, value string) error {
		limit, err := strconv.Atoi(value)
		if err != nil || strconv.Itoa(limit) != value || limit < 1 || limit > MaxModelLimit {
			return fmt.Errorf("has the element %s, whose limit is not a whole number from 1 to %d", quote(name+"="+value), MaxModelLimit)
		}
		return insert(limits, name, limit)
	}
	var err error
	if isJSON(text) {
		err = eachMember(text, func(name string, value json.RawMessage) error { return set(name, string(value)) })
	} else {
		err = eachPair(text, func(element string) (string, string, bool) { return cutLast(element, "=") },
			func(_ int, name, value string) error { return set(name, value) })
	}
	if err == nil {
		*l = limits
	}
	return err
}
