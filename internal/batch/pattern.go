package batch

import (
	"strings"
	"unicode/utf8"
)

// MatchModel reports whether a name matches a pattern, in which * stands for any
// characters, slashes included, and ? for one. It takes time proportional to
// the product of the lengths.
func MatchModel(pattern, name string) bool {
	star, mark := -1, 0 // where the last * stands, and what it has swallowed
	p, n := 0, 0
	for n < len(name) {
		_, size := utf8.DecodeRuneInString(name[n:])
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, n
			p++
		case p < len(pattern) && pattern[p] == '?':
			p, n = p+1, n+size
		case p < len(pattern) && pattern[p] == name[n]:
			p, n = p+1, n+1
		case star >= 0:
			_, swallowed := utf8.DecodeRuneInString(name[mark:])
			mark += swallowed
			p, n = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}
