package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
)

func TestModelPrices(t *testing.T) {
	for _, tt := range []struct {
		text string
		want ModelPrices
		bad  string
	}{
		{"", ModelPrices{}, ""},
		{"gpt-4o=2.50/10, text-embedding-*=0.02,a=b=1", ModelPrices{"gpt-4o": {Prompt: 2_500_000, Completion: 10_000_000}, "text-embedding-*": {Prompt: 20_000}, "a=b": {Prompt: 1_000_000}}, ""},
		{`{"a,b":"0.000001/1000000"}`, ModelPrices{"a,b": {Prompt: 1, Completion: 1_000_000_000_000}}, ""},
		{"gpt-4o", nil, "without a value"},
		{"gpt-4o=free", nil, "2.50/10"},
		{"gpt-4o=-1/2", nil, "2.50/10"},
		{"gpt-4o=1/2/3", nil, "2.50/10"},
		{"gpt-4o=0.0000001", nil, "2.50/10"},
		{"m=1,m=2", nil, "twice"},
		{`{"m":1}`, nil, "no string"},
	} {
		got := ModelPrices{}
		err := got.Set(tt.text)
		if tt.bad != "" {
			if err == nil || !strings.Contains(err.Error(), tt.bad) {
				t.Errorf("%s: %v, want a message with %q", tt.text, err, tt.bad)
			}
			continue
		}
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", tt.text, err, diff)
		}
		again := ModelPrices{}
		if err := again.Set(got.String()); err != nil || !cmp.Equal(got, again) {
			t.Errorf("%s comes back from %q as %v, %v", tt.text, got, again, err)
		}
	}
}

func TestPriceOf(t *testing.T) {
	prices := batch.Prices{"*": {Prompt: 1}, "gpt-*": {Prompt: 2}, "gpt-4o*": {Prompt: 3}, "gpt-4o": {Prompt: 4}}
	for model, want := range map[batch.Model]batch.Money{"llama": 1, "gpt-5": 2, "gpt-4o-mini": 3, "gpt-4o": 4} {
		if got, ok := prices.Of(model); !ok || got.Prompt != want {
			t.Errorf("%s: %v, %v, want %d", model, got, ok, want)
		}
	}
	if _, ok := (batch.Prices{"a*": {}}).Of("b"); ok {
		t.Error("a model without a price has one")
	}
}
