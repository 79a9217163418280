package batch

import (
	"strings"
	"testing"
)

func TestMatchModel(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"m", "m", true}, {"m", "n", false}, {"m", "mm", false}, {"mm", "m", false}, {"*", "", true}, {"*", "org/m", true},
		{"gpt-*", "gpt-4o", true}, {"gpt-*", "xgpt-4o", false}, {"org/*", "org/a/b", true}, {"*-mini", "gpt-4o-mini", true},
		{"*-mini", "gpt-mini-4o", false}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"m?", "m1", true}, {"m?", "m", false},
		{"m?", "mé", true}, {"?", "é", true}, {"**", "x", true}, {"é*", "ecole", false}, {"é*", "éa", true},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 256), false},
	} {
		if got := MatchModel(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q and %q: %t", tt.pattern, tt.name, got)
		}
	}
}
