package mock

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ceilings are the most calls in flight by model.
type ceilings struct {
	byModel map[string]int64
	other   int64 // for models not listed
}

func parseCeilings(s string) (ceilings, error) {
	c := ceilings{byModel: make(map[string]int64), other: math.MaxInt64}
	if s == "" {
		return c, nil
	}
	seenOther := false
	for element := range strings.SplitSeq(s, ",") {
		element = strings.TrimSpace(element)
		at := strings.LastIndexByte(element, '=') // a model's name may hold =
		if at <= 0 {
			return ceilings{}, fmt.Errorf("ceilings: %q: want model=n, or *=n for models not listed", element)
		}
		model := element[:at]
		n, err := strconv.ParseInt(element[at+1:], 10, 64)
		if err != nil || n < 0 {
			return ceilings{}, fmt.Errorf("ceilings: %q: the ceiling is no whole number from 0 up", element)
		}
		_, listed := c.byModel[model]
		if listed || model == "*" && seenOther {
			return ceilings{}, fmt.Errorf("ceilings: %q: model %s is listed twice", element, model)
		}
		if model == "*" {
			c.other, seenOther = n, true
			continue
		}
		c.byModel[model] = n
	}
	return c, nil
}

func (c ceilings) of(model string) int64 {
	if n, listed := c.byModel[model]; listed {
		return n
	}
	return c.other
}
