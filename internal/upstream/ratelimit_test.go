package upstream

import (
	"net/http"
	"testing"
	"time"
)

func TestRateReset(t *testing.T) {
	t.Parallel()
	sent := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		headers map[string]string
		want    time.Duration
	}{
		"none":              {nil, 0},
		"something remains": {map[string]string{"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "6m0s"}, 0},
		"a duration":        {map[string]string{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 6 * time.Minute},
		"milliseconds":      {map[string]string{"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 20 * time.Millisecond},
		"seconds":           {map[string]string{"x-ratelimit-remaining-tokens": " 0 ", "x-ratelimit-reset-tokens": "1.5"}, 1500 * time.Millisecond},
		"of several the longest": {map[string]string{
			"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s",
			"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1s",
		}, 2 * time.Second},
		"only what is used up": {map[string]string{
			"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "2s",
			"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "1m",
		}, 2 * time.Second},
		"Anthropic":    {map[string]string{"anthropic-ratelimit-input-tokens-remaining": "0", "anthropic-ratelimit-input-tokens-reset": "2026-05-01T12:00:30Z"}, 30 * time.Second},
		"epoch":        {map[string]string{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1777636805"}, 5 * time.Second},
		"epoch in ms":  {map[string]string{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1777636805000"}, 5 * time.Second},
		"IETF's draft": {map[string]string{"ratelimit-remaining": "0", "ratelimit-reset": "50"}, 50 * time.Second},
		"with a fraction of seconds": {map[string]string{
			"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-05-01T12:00:01.5+00:00",
		}, 1500 * time.Millisecond},
		"minutes and seconds": {map[string]string{"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m26.4s"}, 86400 * time.Millisecond},
		"past":                {map[string]string{"anthropic-ratelimit-tokens-remaining": "0", "anthropic-ratelimit-tokens-reset": "2026-05-01T11:59:00Z"}, 0},
		"far off":             {map[string]string{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "9999h"}, 0},
		"negative":            {map[string]string{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "-6s"}, 0},
		"no reset":            {map[string]string{"x-ratelimit-remaining-requests": "0"}, 0},
		"nonsense":            {map[string]string{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "soon"}, 0},
		"not a number":        {map[string]string{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "NaN"}, 0},
		"no end":              {map[string]string{"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "Inf"}, 0},
		"remaining: none":     {map[string]string{"x-ratelimit-remaining-requests": "none", "x-ratelimit-reset-requests": "6s"}, 0},
		"below zero":          {map[string]string{"x-ratelimit-remaining-requests": "-1", "x-ratelimit-reset-requests": "6s"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := http.Header{"Date": {sent.Format(http.TimeFormat)}}
			for key, value := range tt.headers {
				h.Set(key, value)
			}
			if got := rateReset(h, sent.Add(time.Hour)); got != tt.want {
				t.Errorf("the reset is in %v, want %v", got, tt.want)
			}
		})
	}
}
