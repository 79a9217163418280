package rate

import "math"

// estimator follows how the tokens of answers compare with those that were
// estimated from requests. The zero value takes estimates as they are.
type estimator struct {
	samples   float64
	ratio     float64 // mean of used ÷ estimated
	deviation float64 // mean of how far from it
	size      float64 // mean of used
}

const (
	// learning is the weight of a new sample once there are a few: about the last
	// fifty calls count.
	learning = 1.0 / 50
	// safety is by how many mean deviations an estimate is above the mean.
	safety = 2
	// maxRatio bounds what is learned: an estimate may be too low by so much.
	maxRatio = 64
)

func (e *estimator) learn(estimated, used int64) {
	ratio := min(float64(used)/float64(max(estimated, 1)), maxRatio)
	weight := learning
	if e.samples++; e.samples < 1/learning {
		weight = 1 / e.samples
	}
	if e.samples == 1 {
		// Of a first sample nothing is known but that others may differ.
		e.ratio, e.deviation, e.size = ratio, math.Abs(1-ratio)/safety, float64(used)
		return
	}
	e.deviation += weight * (math.Abs(ratio-e.ratio) - e.deviation)
	e.ratio += weight * (ratio - e.ratio)
	e.size += weight * (float64(used) - e.size)
}

func (e *estimator) of(tokens int64) int64 {
	if e.samples == 0 {
		return tokens
	}
	return int64(math.Ceil(float64(tokens) * (e.ratio + safety*e.deviation)))
}
