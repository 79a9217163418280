package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"fusillade/internal/batch"
)

// ModelLimits is the most calls in flight by model.
type ModelLimits map[batch.Model]batch.Limit

// String spells the limits as Set reads them.
func (l ModelLimits) String() string {
	for model := range l {
		if !isShort(model) {
			return long(l)
		}
	}
	return short(l, batch.Limit.String)
}

// Set reads gpt-4=5,llama3:70b=auto:4-200 or {"gpt-4":5}. In the short spelling the
// limit follows the last equals sign of its element.
func (l *ModelLimits) Set(text string) error {
	limits := ModelLimits{}
	set := func(name, value string) error {
		limit, err := batch.ParseLimit(value)
		if err != nil {
			return fmt.Errorf("has the element %s, whose limit %w", quote(name+"="+value), err)
		}
		return insert(limits, name, limit)
	}
	var err error
	if isJSON(text) {
		err = eachMember(text, func(name string, value json.RawMessage) error {
			spelled := string(value)
			if strings.HasPrefix(spelled, `"auto`) {
				spelled = strings.Trim(spelled, `"`)
			}
			return set(name, spelled)
		})
	} else {
		err = eachPair(text, func(element string) (string, string, bool) { return cutLast(element, "=") },
			func(_ int, name, value string) error { return set(name, value) })
	}
	if err == nil {
		*l = limits
	}
	return err
}
