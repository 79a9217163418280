package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseWindow reads a time span such as 24h, 1h30m, 900s, 7d or 1d12h: Go's
// notation with whole days before it. It refuses what is not above zero.
func ParseWindow(text string) (time.Duration, error) {
	days, rest, hasDays := strings.Cut(text, "d")
	if !hasDays {
		days, rest = "0", text
	}
	n, err := strconv.ParseUint(days, 10, 32)
	if err != nil || n > uint64(math.MaxInt64/day) {
		return 0, badWindow(text)
	}
	span := time.Duration(0)
	if rest != "" {
		if span, err = time.ParseDuration(rest); err != nil || strings.ContainsAny(rest[:1], "+-") {
			return 0, badWindow(text)
		}
	}
	total := time.Duration(n)*day + span
	if total < span { // past the 292 years that a Duration holds
		return 0, badWindow(text)
	}
	if total == 0 {
		return 0, errors.New("a time span of zero, which must be above it")
	}
	return total, nil
}

func badWindow(text string) error {
	return fmt.Errorf("%s is not a time span such as 900s, 1h30m, 24h or 7d", quote(text))
}
