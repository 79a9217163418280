package batch

import (
	"cmp"
	"errors"
	"strconv"
	"strings"
)

// MaxRate is the highest rate that a limit may name, for each minute.
const MaxRate = 1_000_000_000

// RateLimit is how much may be sent to a model, or with a credential, in any
// minute. Zero fields limit nothing.
type RateLimit struct {
	Requests int64 // calls for each minute
	Tokens   int64 // of prompts and answers together, for each minute
}

// ErrRateLimit is returned for what is no rate limit.
var ErrRateLimit = errors.New("is not a rate limit such as 600rpm/100000tpm, 600rpm or 100000tpm, each from 1 to 1000000000")

// ParseRateLimit reads 600rpm/100000tpm, or one half of it. It returns
// ErrRateLimit.
func ParseRateLimit(text string) (l RateLimit, err error) {
	for part := range strings.SplitSeq(text, "/") {
		field, digits := &l.Requests, ""
		if rest, ok := strings.CutSuffix(part, "rpm"); ok {
			digits = rest
		} else if rest, ok := strings.CutSuffix(part, "tpm"); ok {
			field, digits = &l.Tokens, rest
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if err != nil || n < 1 || n > MaxRate || strconv.FormatInt(n, 10) != digits || *field != 0 {
			return RateLimit{}, ErrRateLimit
		}
		*field = n
	}
	return l, nil
}

// String spells the limit as ParseRateLimit reads it; empty: there is none.
func (l RateLimit) String() string {
	var parts []string
	if l.Requests > 0 {
		parts = append(parts, strconv.FormatInt(l.Requests, 10)+"rpm")
	}
	if l.Tokens > 0 {
		parts = append(parts, strconv.FormatInt(l.Tokens, 10)+"tpm")
	}
	return strings.Join(parts, "/")
}

// Or is the limit with what it leaves open taken from another.
func (l RateLimit) Or(other RateLimit) RateLimit {
	return RateLimit{cmp.Or(l.Requests, other.Requests), cmp.Or(l.Tokens, other.Tokens)}
}
