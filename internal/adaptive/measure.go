package adaptive

import (
	"math"
	"time"
)

// Sums are of calls that completed. They are added up where the calls end, so that
// no call has to be reported by itself.
type Sums struct {
	Calls         float64 `json:"n,omitempty"`
	Seconds       float64 `json:"s,omitempty"`  // of the calls
	SecondsSquare float64 `json:"ss,omitempty"` // sum of squares
	Tokens        float64 `json:"t,omitempty"`
	TokensSquare  float64 `json:"tt,omitempty"`
	Product       float64 `json:"st,omitempty"` // sum of seconds × tokens
	Tokenless     float64 `json:"n0,omitempty"` // calls without a count of tokens
}

// Add counts a call that took so long and made so many tokens; 0: it did not say.
func (s *Sums) Add(took time.Duration, tokens int64) {
	seconds, t := took.Seconds(), float64(tokens)
	s.Calls++
	s.Seconds += seconds
	s.SecondsSquare += seconds * seconds
	s.Tokens += t
	s.TokensSquare += t * t
	s.Product += seconds * t
	if tokens <= 0 {
		s.Tokenless++
	}
}

// Plus adds up.
func (s Sums) Plus(o Sums) Sums {
	return Sums{
		s.Calls + o.Calls, s.Seconds + o.Seconds, s.SecondsSquare + o.SecondsSquare,
		s.Tokens + o.Tokens, s.TokensSquare + o.TokensSquare, s.Product + o.Product, s.Tokenless + o.Tokenless,
	}
}

// Times weighs.
func (s Sums) Times(f float64) Sums {
	return Sums{
		s.Calls * f, s.Seconds * f, s.SecondsSquare * f,
		s.Tokens * f, s.TokensSquare * f, s.Product * f, s.Tokenless * f,
	}
}

func (s Sums) latency() float64 { return s.Seconds / s.Calls }

// perCall is the time of a call, and its coefficient of variation.
func (s Sums) perCall() (seconds, variation float64) {
	mean := s.latency()
	return mean, math.Sqrt(max(s.SecondsSquare/s.Calls-mean*mean, 0)) / mean
}

// perToken is the time of a token, and how much calls differ from it: the
// coefficient of variation of the residual of a ratio estimator.
func (s Sums) perToken() (seconds, variation float64) {
	ratio := s.Seconds / s.Tokens
	residual := s.SecondsSquare - 2*ratio*s.Product + ratio*ratio*s.TokensSquare
	return ratio, math.Sqrt(max(residual/s.Calls, 0)) / s.latency()
}

// level is what was measured at one limit.
type level struct {
	sums     Sums
	inFlight float64 // call-seconds
	seconds  float64
}

func (l level) plus(o level) level {
	return level{l.sums.Plus(o.sums), l.inFlight + o.inFlight, l.seconds + o.seconds}
}

func (l level) times(f float64) level {
	return level{l.sums.Times(f), l.inFlight * f, l.seconds * f}
}

// measured reports whether there is anything to compare.
func (l level) measured() bool { return l.sums.Calls > 0 && l.sums.Seconds > 0 && l.inFlight > 0 }

const (
	// leastVariation stands for what the sums do not show: the clocks, the way.
	leastVariation = 0.02
	// fullSpan is the variation from which a level is measured for two latencies;
	// of equal calls one is enough, since all that began at it end together.
	fullSpan = 1.0 / 3
)

// span is for how long the level has to be measured: so that the calls that end are
// not only the short ones of those that began.
func (l level) span() float64 {
	mean, variation := l.sums.perCall()
	if l.sums.Tokenless == 0 {
		if _, v := l.sums.perToken(); v < variation {
			variation = v
		}
	}
	return mean * (1.1 + 0.9*min(variation/fullSpan, 1))
}

// change compares the time per work at two levels: the logarithm of after ÷ before,
// and its standard error.
func change(before, after level) (log, deviation float64) {
	r1, v1 := before.sums.perCall()
	r2, v2 := after.sums.perCall()
	if before.sums.Tokenless == 0 && after.sums.Tokenless == 0 {
		t1, w1 := before.sums.perToken()
		t2, w2 := after.sums.perToken()
		if w1+w2 < v1+v2 {
			r1, v1, r2, v2 = t1, w1, t2, w2
		}
	}
	// Of a few calls alike by chance the variation says little: that of both counts.
	n1, n2 := before.sums.Calls, after.sums.Calls
	variation := max(math.Sqrt((n1*v1*v1+n2*v2*v2)/(n1+n2)), leastVariation)
	return math.Log(r2 / r1), variation * math.Sqrt(1/n1+1/n2)
}

// gain compares the throughput of two levels with the calls in flight that they
// allow, and says how sure that is.
func gain(before, after level, limitBefore, limitAfter int) (gain, deviation float64) {
	log, deviation := change(before, after)
	inFlight := math.Log(after.inFlight / after.seconds * before.seconds / before.inFlight)
	step := math.Log(float64(limitAfter) / float64(limitBefore))
	return (inFlight - log) / step, deviation / math.Abs(step)
}
