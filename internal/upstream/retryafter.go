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

// retryAfter reads Retry-After-Ms (milliseconds) or else Retry-After (seconds, an
// HTTP date, or as others write it: RFC 3339, seconds or milliseconds since 1970, a
// duration with its unit). A date is measured against the answer's own Date, if it
// has one, so that the two clocks need not agree. Zero: none, past, too far off
// or illegible. Of several the first counts that can be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	if wait, ok := parseWait(h.Get("Retry-After-Ms"), time.Millisecond); ok {
		return wait
	}
	sent, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		sent = now
	}
	for _, value := range h.Values("Retry-After") {
		if wait, ok := readRetryAfter(strings.TrimSpace(value), sent); ok {
			return wait
		}
	}
	return 0
}

func readRetryAfter(value string, sent time.Time) (wait time.Duration, ok bool) {
	if at, err := http.ParseTime(value); err == nil {
		return until(at, sent), true
	}
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return until(at, sent), true
	}
	for part := range strings.SplitSeq(value, ",") { // of headers that a proxy joined
		part = strings.TrimSpace(part)
		if wait, ok := parseWait(part, time.Second); ok {
			return wait, true
		}
		if n, err := strconv.ParseFloat(part, 64); err == nil && n >= firstEpoch && n < 1000*lastEpoch {
			return until(epoch(n), sent), true
		}
		// As gateways write that are written in Go.
		if wait, err := time.ParseDuration(part); err == nil && wait >= 0 {
			return min(wait, MaxRetryAfter), true
		}
	}
	return 0, false
}

// until is a wait for a point in time; one that is far off is a mistake.
func until(at, now time.Time) time.Duration {
	if wait := at.Sub(now); wait > 0 && wait <= MaxRetryAfter {
		return wait
	}
	return 0
}

// Seconds since 1970 from about 2001 on are taken for a point in time, as some
// endpoints send it, not for decades to wait; numbers from lastEpoch on are
// milliseconds.
const firstEpoch, lastEpoch = 1e9, 1e11

func epoch(n float64) time.Time {
	if n >= lastEpoch {
		return time.UnixMilli(int64(n))
	}
	return time.Unix(int64(n), 0)
}

// shouldRetry is what the endpoint says itself, in X-Should-Retry, of whether an
// error is worth another attempt; known is false where it says nothing. OpenAI and
// Anthropic send it, and their SDKs heed it before the status:
// https://github.com/openai/openai-python/blob/main/src/openai/_base_client.py.
func shouldRetry(h http.Header) (retry, known bool) {
	switch strings.ToLower(strings.TrimSpace(h.Get("X-Should-Retry"))) {
	case "true":
		return true, true
	case "false":
		return false, true
	}
	return false, false
}

func parseWait(value string, unit time.Duration) (time.Duration, bool) {
	n, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
	if err != nil || !(n >= 0) || n >= firstEpoch { // NaN is not ≥ 0 either
		return 0, false
	}
	return time.Duration(min(n*float64(unit), float64(MaxRetryAfter))), true
}
