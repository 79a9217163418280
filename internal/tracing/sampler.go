package tracing

import (
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// NewSampler returns the sampler that OTEL_TRACES_SAMPLER names, with the share of
// traces that OTEL_TRACES_SAMPLER_ARG gives.
func NewSampler(name string, ratio float64) sdktrace.Sampler {
	switch name {
	case "always_on":
		return sdktrace.AlwaysSample()
	case "always_off":
		return sdktrace.NeverSample()
	case "traceidratio":
		return sdktrace.TraceIDRatioBased(ratio)
	case "parentbased_always_off":
		return sdktrace.ParentBased(sdktrace.NeverSample())
	case "parentbased_traceidratio":
		return sdktrace.ParentBased(sdktrace.TraceIDRatioBased(ratio))
	}
	return sdktrace.ParentBased(sdktrace.AlwaysSample())
}

// flushKey marks the context of a flush of sampled requests.
type flushKey struct{}

// flushSampler samples flushes of which a request is sampled, and leaves all else to
// the sampler that was asked for.
type flushSampler struct{ sdktrace.Sampler }

// ShouldSample implements sdktrace.Sampler.
func (s flushSampler) ShouldSample(p sdktrace.SamplingParameters) sdktrace.SamplingResult {
	if p.ParentContext.Value(flushKey{}) != nil {
		return sdktrace.SamplingResult{Decision: sdktrace.RecordAndSample}
	}
	return s.Sampler.ShouldSample(p)
}
