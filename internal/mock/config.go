package mock

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"time"
)

// Limits and defaults.
const (
	// MaxLatency is the longest latency that can be set. Hang waits longer.
	MaxLatency = time.Hour

	DefaultOutputTokens = 16
	maxOutputTokens     = 100_000
	maxRetryAfter       = 24 * 60 * 60 // seconds
	maxRequestBytes     = 64 << 20
	maxModels           = 4096
	maxCustomIDs        = 10_000_000
)

// Config configures a Server. Its zero value answers at once and never fails.
type Config struct {
	Settings
	// Seed selects one of many repeatable runs.
	Seed uint64
	// DropCustomIDs switches off the count of calls per custom id, which costs
	// memory for each of them. What depends on that count then depends on the
	// X-Fusillade-Attempt header.
	DropCustomIDs bool
	// OutputTokens is the length of each answer in words. Zero:
	// DefaultOutputTokens.
	OutputTokens int
	// Changes are made to the settings while the server runs, if it is served by
	// Listen: each is a time after the start and what PATCH /config takes, such as
	// 60s={"knee":"32"}.
	Changes []string
	// TLS has Listen serve https, and HTTP/2 over it, with its certificate. Nil: http.
	TLS *tls.Config
}

// Settings can be changed while the server runs.
type Settings struct {
	// Latency is the time from request to answer: "50ms",
	// "uniform:10ms-80ms", "normal:50ms±10ms" (mean and standard deviation; +-
	// may stand for ±; cut off at zero), or "hang": no answer until the client
	// goes away or the settings change. Empty: none.
	Latency string `json:"latency"`
	// TokenLatency is the time before each part of a streamed answer but the first,
	// as Latency; "hang": no part comes after the first. Empty: none.
	TokenLatency string `json:"token_latency"`
	// Errors are rates by status, such as "429=0.05,500=0.05,400=0.01". A
	// status that is not worth a retry (4xx but 404, 408, 429) hits the same
	// custom ids on every call; the others hit that share of the remaining
	// calls, each anew. Empty: none.
	Errors string `json:"errors"`
	// Behaviors are rates by name of a Behavior, such as "html=0.05,reset=0.01":
	// that share of the calls, each anew, gets it, unless its prompt asks for
	// another. Empty: none.
	Behaviors string `json:"behaviors"`
	// RetryAfterSeconds is sent as Retry-After with 429 and 503. Zero: not sent.
	RetryAfterSeconds int `json:"retry_after_seconds"`
	// Ceilings are the most calls in flight by model, such as "gpt-4=5,*=10"; *
	// is any model that is not listed. A call beyond is answered with 429 and
	// counted as a violation. Empty: no ceiling.
	Ceilings string `json:"ceilings"`
	// Knee makes an engine of each model that works on so many calls at once, each
	// for its latency, such as "64" or "gpt-4=64,*=8". Calls beyond wait in the
	// order of their arrival: throughput saturates at the knee, and latency grows
	// beyond it. Empty: every call is worked on at once.
	Knee string `json:"knee"`
}

// settings is Settings, parsed. It is never changed, only replaced.
type settings struct {
	Settings
	latency   latency
	token     latency
	errors    errorRates
	ceilings  amounts
	knee      amounts
	behaviors behaviorRates
	replaced  chan struct{} // closed when these are no longer in force
}

func (s Settings) parse() (*settings, error) {
	parsed := &settings{Settings: s, replaced: make(chan struct{})}
	var errs [7]error
	parsed.latency, errs[0] = parseLatency(s.Latency)
	parsed.errors, errs[1] = parseErrorRates(s.Errors)
	parsed.ceilings, errs[2] = parseAmounts("ceilings", s.Ceilings, 0)
	parsed.knee, errs[6] = parseAmounts("knee", s.Knee, 1)
	if s.RetryAfterSeconds < 0 || s.RetryAfterSeconds > maxRetryAfter {
		errs[3] = fmt.Errorf("retry_after_seconds is %d: want 0 to %d", s.RetryAfterSeconds, maxRetryAfter)
	}
	parsed.behaviors, errs[4] = parseBehaviorRates(s.Behaviors)
	if parsed.token, errs[5] = parseLatency(s.TokenLatency); errs[5] != nil {
		errs[5] = fmt.Errorf("token latency: %w", errs[5])
	}
	return parsed, errors.Join(errs[:]...)
}

func (c Config) outputTokens() (int, error) {
	n := cmp.Or(c.OutputTokens, DefaultOutputTokens)
	if n < 0 || n > maxOutputTokens {
		return 0, fmt.Errorf("output tokens are %d: want 1 to %d", n, maxOutputTokens)
	}
	return n, nil
}
