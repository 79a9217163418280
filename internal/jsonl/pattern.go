package jsonl

import (
	"slices"
	"strings"

	"fusillade/internal/batch"
)

// allowed reports whether a name matches one of the patterns, or there is none.
func allowed(patterns []string, name string) bool {
	return len(patterns) == 0 || slices.ContainsFunc(patterns, func(p string) bool { return batch.MatchModel(p, name) })
}

// maxPatternsShown bounds a message.
const maxPatternsShown = 10

func listPatterns(patterns []string) string {
	if more := len(patterns) - maxPatternsShown; more > 0 {
		return strings.Join(patterns[:maxPatternsShown], ", ") + ", …"
	}
	return strings.Join(patterns, ", ")
}
