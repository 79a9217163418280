package mock

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// amounts are whole numbers by model.
type amounts struct {
	byModel map[string]int64
	other   int64 // for models not listed
}

// parseAmounts reads "gpt-4=5,*=10" or a single number, which is that of all
// models. What is not listed has no bound. The error begins with the field.
func parseAmounts(field, s string, least int64) (amounts, error) {
	a := amounts{byModel: make(map[string]int64), other: math.MaxInt64}
	if s == "" {
		return a, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= least {
		a.other = n
		return a, nil
	}
	seenOther := false
	for element := range strings.SplitSeq(s, ",") {
		element = strings.TrimSpace(element)
		at := strings.LastIndexByte(element, '=') // a model's name may hold =
		if at <= 0 {
			return amounts{}, fmt.Errorf("%s: %q: want a number, model=n, or *=n for models not listed", field, element)
		}
		model := element[:at]
		n, err := strconv.ParseInt(element[at+1:], 10, 64)
		if err != nil || n < least {
			return amounts{}, fmt.Errorf("%s: %q: it is no whole number from %d up", field, element, least)
		}
		_, listed := a.byModel[model]
		if listed || model == "*" && seenOther {
			return amounts{}, fmt.Errorf("%s: %q: model %s is listed twice", field, element, model)
		}
		if model == "*" {
			a.other, seenOther = n, true
			continue
		}
		a.byModel[model] = n
	}
	return a, nil
}

func (a amounts) of(model string) int64 {
	if n, listed := a.byModel[model]; listed {
		return n
	}
	return a.other
}
