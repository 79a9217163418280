package mock

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// latency is a distribution of waiting times. Its zero value is none at all.
type latency struct {
	hang   bool
	normal bool
	// a and b are mean and standard deviation of a normal distribution, else
	// the bounds of a uniform one.
	a, b time.Duration
}

const wantLatency = `want a duration such as 50ms, uniform:10ms-80ms, normal:50ms±10ms or hang`

func parseLatency(s string) (latency, error) {
	kind, arguments, found := strings.Cut(s, ":")
	switch {
	case s == "":
		return latency{}, nil
	case s == "hang":
		return latency{hang: true}, nil
	case !found:
		fixed, err := parseDelay(s)
		if err != nil {
			return latency{}, fmt.Errorf("latency %q: %w", s, err)
		}
		return latency{a: fixed, b: fixed}, nil
	}

	var first, second string
	switch kind {
	case "uniform":
		first, second, found = strings.Cut(arguments, "-")
	case "normal":
		first, second, found = strings.Cut(strings.ReplaceAll(arguments, "+-", "±"), "±")
	default:
		found = false
	}
	if !found {
		return latency{}, fmt.Errorf("latency %q: %s", s, wantLatency)
	}
	a, err := parseDelay(first)
	if err != nil {
		return latency{}, fmt.Errorf("latency %q: %w", s, err)
	}
	b, err := parseDelay(second)
	if err != nil {
		return latency{}, fmt.Errorf("latency %q: %w", s, err)
	}
	if kind == "uniform" && a > b {
		return latency{}, fmt.Errorf("latency %q: its lower bound is above its upper bound", s)
	}
	return latency{normal: kind == "normal", a: a, b: b}, nil
}

func parseDelay(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("%q is no duration: %s", s, wantLatency)
	}
	if d < 0 || d > MaxLatency {
		return 0, fmt.Errorf("%v is not within 0 and %v", d, MaxLatency)
	}
	return d, nil
}

func (l latency) of(d draw) time.Duration {
	if !l.normal {
		return l.a + time.Duration(unit(d.perCall(forLatency))*float64(l.b-l.a))
	}
	// Box–Muller; 1−u keeps the logarithm's argument above zero.
	radius := math.Sqrt(-2 * math.Log(1-unit(d.perCall(forLatency))))
	z := radius * math.Cos(2*math.Pi*unit(d.perCall(forLatency2)))
	return min(max(l.a+time.Duration(z*float64(l.b)), 0), MaxLatency)
}
