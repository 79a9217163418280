package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// MaxRetryAfter caps what an upstream may ask for: a daily quota may well
// need hours, but a mistyped header must not hold a model back for years.
const MaxRetryAfter = 24 * time.Hour

// retryAfter reads Retry-After-Ms (milliseconds) or else Retry-After (seconds
// or an HTTP date). A date is measured against the answer's own Date, if it
// has one, so that the two clocks need not agree. Zero: none, past or illegible.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if wait, ok := parseWait(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return wait
	}
	value := strings.TrimSpace(h.Get("Retry-After"))
	if wait, ok := parseWait(value, time.Second); ok {
		return wait
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(h.Get("Date")); err == nil {
		now = sent
	}
	return min(max(at.Sub(now), 0), MaxRetryAfter)
}

func parseWait(value string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(n >= 0) { // NaN is not ≥ 0 either
		return 0, false
	}
	return time.Duration(min(n*float64(unit), float64(MaxRetryAfter))), true
}
