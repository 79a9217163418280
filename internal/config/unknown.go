package config

import (
	"regexp"
	"slices"
	"strings"
)

// testPrefix begins the variables of our own tests, which may be set while a
// binary is started by one.
const testPrefix = prefix + "_TEST_"

// maxTypos is the largest edit distance at which a name is taken for a
// misspelt one: FUSILLADE_TIMEOUT lacks three characters.
const maxTypos = 3

// findUnknown notes each variable with our prefix that no binary of ours
// reads: most likely a misspelt one, whose setting would silently stay as it
// is.
func (p *problems) findUnknown(environ []string) {
	var known []string
	for _, s := range slices.Concat(settingsOf(&Standalone{}), settingsOf(&Client{}), p.settings) {
		known = append(known, prefixed(s.name))
		if former := s.tag.Get("was"); former != "" {
			known = append(known, former)
		}
		if s.secret() {
			known = append(known, prefixed(s.name)+fileSuffix)
		}
	}
	var ours []string
	for _, entry := range environ {
		variable, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(variable, prefix+"_") && !strings.HasPrefix(variable, testPrefix) {
			ours = append(ours, variable)
		}
	}
	slices.Sort(ours)
	for _, variable := range ours {
		if slices.Contains(known, variable) || isServiceLink(variable, ours) {
			continue
		}
		text := "is not a setting"
		if name := nearest(variable, known); name != "" {
			text += ": did you mean " + name + "?"
		}
		p.list = append(p.list, Problem{Variable: variable, Text: text})
	}
}

var serviceLink = regexp.MustCompile(`^(.+?)(_SERVICE_HOST|_SERVICE_PORT(_.+)?|_PORT|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)$`)

// isServiceLink reports whether Kubernetes made the variable: it describes
// every service of a namespace to every pod in it, and one named fusillade-api
// yields FUSILLADE_API_SERVICE_HOST, FUSILLADE_API_PORT_80_TCP and more.
func isServiceLink(variable string, all []string) bool {
	parts := serviceLink.FindStringSubmatch(variable)
	return parts != nil && slices.Contains(all, parts[1]+"_SERVICE_HOST")
}

// nearest returns the known name that takes the fewest edits to reach, or
// nothing if it takes too many.
func nearest(name string, known []string) string {
	best, fewest := "", maxTypos+1
	for _, candidate := range known {
		if edits := distance(name, candidate); edits < fewest {
			best, fewest = candidate, edits
		}
	}
	return best
}

// distance is the Levenshtein distance in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
