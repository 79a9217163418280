package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestModelRateLimits(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		text string
		want ModelRateLimits
		err  string
	}{
		{"", ModelRateLimits{}, ""},
		{"gpt-4=600rpm/100000tpm, llama3:70b=20rpm,a=b=5tpm", ModelRateLimits{"gpt-4": {Requests: 600, Tokens: 100_000}, "llama3:70b": {Requests: 20}, "a=b": {Tokens: 5}}, ""},
		{`{"a,b":"5tpm/7rpm"}`, ModelRateLimits{"a,b": {Requests: 7, Tokens: 5}}, ""},
		{"a=5", nil, "is not a rate limit"},
		{"a=5rpm/6rpm", nil, "is not a rate limit"},
		{"a=0rpm", nil, "is not a rate limit"},
		{"a=-1rpm", nil, "is not a rate limit"},
		{"a=05rpm", nil, "is not a rate limit"},
		{"a=1000000001tpm", nil, "is not a rate limit"},
		{"a=5rpm/", nil, "is not a rate limit"},
		{"a=", nil, "is not a rate limit"},
		{"a", nil, "without a value"},
		{"a=1rpm,a=2rpm", nil, "twice"},
		{`{"a":5}`, nil, "no string"},
	} {
		got := ModelRateLimits{}
		err := got.Set(tt.text)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: the error is %v, want %q", tt.text, err, tt.err)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%q: %v (-want +got):\n%s", tt.text, err, diff)
		}
		again := ModelRateLimits{}
		if err := again.Set(got.String()); err != nil || cmp.Diff(got, again) != "" {
			t.Errorf("%q is spelled as %q, which is %v (%v)", tt.text, got, again, err)
		}
	}
}

func TestEndpointRateLimits(t *testing.T) {
	t.Parallel()
	var got EndpointRateLimits
	if err := got.Set("https://api.example.com/v1/=600rpm"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(EndpointRateLimits{"https://api.example.com/v1": batch.RateLimit{Requests: 600}}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, text := range []string{"api.example.com=1rpm", "ftp://a=1rpm", "https://user:secret@a=1rpm", "https://a?b=1rpm", "http://a=1rpm,http://a/=2rpm", "http://a"} {
		if err := got.Set(text); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error is %v", text, err)
		}
	}
}
