package batch

import (
	"fmt"
	"strconv"
	"strings"
)

// DefaultRetryStatuses are the statuses that are retried unless configured
// otherwise. 404 is among them: gateways answer it while a model is loading.
const DefaultRetryStatuses = "5xx,429,408,404"

const (
	minStatus = 100
	maxStatus = 599
)

// StatusSet is a set of HTTP statuses. The zero value is empty.
type StatusSet struct {
	text   string
	member [maxStatus + 1]bool
}

// Contains reports whether the status is in the set.
func (s StatusSet) Contains(status int) bool {
	return status >= 0 && status < len(s.member) && s.member[status]
}

// String spells the set as Set reads it.
func (s StatusSet) String() string {
	if s.text == "" {
		return "none"
	}
	return s.text
}

// Set reads a comma-separated list of HTTP statuses: codes (429), classes
// (5xx) and ranges (500-599). The word none is the empty set. The error names
// the element that is wrong.
func (s *StatusSet) Set(list string) error {
	set := StatusSet{text: list}
	if strings.TrimSpace(list) != "none" {
		for element := range strings.SplitSeq(list, ",") {
			first, last, err := parseStatuses(strings.TrimSpace(element))
			if err != nil {
				return err
			}
			for status := first; status <= last; status++ {
				set.member[status] = true
			}
		}
	}
	*s = set
	return nil
}

func parseStatuses(element string) (first, last int, err error) {
	if class, found := strings.CutSuffix(strings.ToLower(element), "xx"); found {
		if len(class) != 1 || class[0] < '1' || class[0] > '5' {
			return 0, 0, fmt.Errorf("has the status class %q: want 1xx to 5xx", element)
		}
		first = int(class[0]-'0') * 100
		return first, first + 99, nil
	}
	from, to, isRange := strings.Cut(element, "-")
	if !isRange {
		to = from
	}
	first, errFirst := parseStatus(from)
	last, errLast := parseStatus(to)
	switch {
	case errFirst != nil || errLast != nil:
		return 0, 0, fmt.Errorf("has the element %q: want a code (429), a class (5xx) or a range (500-599) within %d to %d", element, minStatus, maxStatus)
	case first > last:
		return 0, 0, fmt.Errorf("has the range %q: its start is above its end", element)
	}
	return first, last, nil
}

func parseStatus(s string) (int, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err != nil {
		return 0, err
	}
	if n < minStatus || n > maxStatus {
		return 0, strconv.ErrRange
	}
	return int(n), nil
}
