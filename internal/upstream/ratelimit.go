package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// rateHeaders are pairs of headers: how much remains of a rate limit, and when
// it is whole again. OpenAI, Azure and those who do as they do send the first
// three, Anthropic the others:
// https://platform.openai.com/docs/guides/rate-limits,
// https://docs.anthropic.com/en/api/rate-limits#response-headers,
// https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/06/.
var rateHeaders = []struct{ remaining, reset string }{
	{"X-Ratelimit-Remaining-Requests", "X-Ratelimit-Reset-Requests"},
	{"X-Ratelimit-Remaining-Tokens", "X-Ratelimit-Reset-Tokens"},
	{"X-Ratelimit-Remaining", "X-Ratelimit-Reset"},
	{"Ratelimit-Remaining", "Ratelimit-Reset"},
	{"Anthropic-Ratelimit-Requests-Remaining", "Anthropic-Ratelimit-Requests-Reset"},
	{"Anthropic-Ratelimit-Tokens-Remaining", "Anthropic-Ratelimit-Tokens-Reset"},
	{"Anthropic-Ratelimit-Input-Tokens-Remaining", "Anthropic-Ratelimit-Input-Tokens-Reset"},
	{"Anthropic-Ratelimit-Output-Tokens-Remaining", "Anthropic-Ratelimit-Output-Tokens-Reset"},
}

// rateReset is for how long nothing remains of one of the endpoint's rate limits;
// 0: something does, or it does not say, or not until when.
func rateReset(h http.Header, now time.Time) (longest time.Duration) {
	for _, names := range rateHeaders {
		remaining := h[names.remaining]
		if len(remaining) == 0 || strings.TrimSpace(remaining[0]) != "0" {
			continue
		}
		sent, err := http.ParseTime(h.Get("Date"))
		if err != nil {
			sent = now
		}
		longest = max(longest, parseReset(strings.TrimSpace(h.Get(names.reset)), sent))
	}
	return longest
}

// parseReset reads a duration (6m0s, 20ms), seconds, or a point in time: RFC 3339,
// seconds or milliseconds since 1970. What is past, far off or anything else is 0.
func parseReset(value string, sent time.Time) time.Duration {
	if wait, err := time.ParseDuration(value); err == nil {
		return until(sent.Add(wait), sent)
	}
	if at, err := time.Parse(time.RFC3339, value); err == nil {
		return until(at, sent)
	}
	n, err := strconv.ParseFloat(value, 64)
	switch {
	case err != nil || !(n > 0) || n >= 1000*lastEpoch:
		return 0
	case n >= firstEpoch:
		return until(epoch(n), sent)
	}
	return until(sent.Add(time.Duration(min(n, 2*MaxRetryAfter.Seconds())*float64(time.Second))), sent)
}
