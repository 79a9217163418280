package config

import (
	"testing"

	"fusillade/internal/batch"
)

// UPSTREAM_API_KEY goes to UPSTREAM_URL and nowhere else.
func TestKeyFor(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ url, models, model, want string }{
		{"https://one.example/v1", "", "m", "the-key"},
		{"https://one.example/v1", "m=https://two.example/v1", "m", ""},
		{"https://one.example/v1", "m=https://two.example/v1", "other", "the-key"},
		{"https://one.example/v1", "m=https://u:p@two.example/v1", "m", ""},
		{"https://one.example/v1", "m=https://one.example/v1/", "m", "the-key"}, // the same endpoint
		{"https://one.example/v1", "m=https://one.example/v2", "m", ""},
		{"https://u:p@one.example/v1", "", "m", ""},
		{"", "m=https://two.example/v1", "m", ""},
		{"", "m=https://two.example/v1", "other", ""},
	} {
		var u Upstream
		for _, err := range []error{u.URL.Set(test.url), u.APIKey.Set("the-key"), u.Models.Set(test.models)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := u.KeyFor(batch.Model(test.model)); got != test.want {
			t.Errorf("UPSTREAM_URL %s, MODEL_UPSTREAMS %s: the key for %s is %q, want %q", test.url, test.models, test.model, got, test.want)
		}
	}
}
