package upstream

import (
	"slices"
	"strings"

	"fusillade/internal/batch"
)

// answerKind is what an answer looks like to requests of a path. The zero value:
// any JSON object is one.
type answerKind struct {
	path   string // its end
	member string // carries the answer
	// others carry it in the answers of some servers. What is in them is not
	// looked at.
	others []string
	list   bool // the answer may be the array itself, without a member
	// element are members of which each element has one; none: any object is one.
	element []string
}

// answerKinds: of two that end a path the first counts. OpenAI's shapes, those of
// vLLM for what OpenAI does not have, and Anthropic's of messages; SGLang
// answers a rerank with an array, a score with "scores", and a classify with
// "embedding".
var answerKinds = []answerKind{
	{path: "/chat/completions", member: "choices"},
	{path: "/completions", member: "choices"},
	{path: "/embeddings", member: "data"},
	{path: "/responses", member: "output"},
	{path: "/moderations", member: "results", element: []string{"flagged", "categories"}},
	{path: "/images/generations", member: "data", element: []string{"b64_json", "url"}},
	{path: "/images/edits", member: "data", element: []string{"b64_json", "url"}},
	{path: "/rerank", member: "results", others: []string{"data"}, list: true, element: []string{"relevance_score", "score", "index"}},
	{path: "/score", member: "data", others: []string{"scores"}, element: []string{"score"}},
	{path: "/classify", member: "data", others: []string{"embedding"}, list: true, element: []string{"label", "probs", "score", "embedding"}},
	{path: "/pooling", member: "data", element: []string{"data", "embedding"}},
	{path: "/messages", member: "content", element: []string{"type"}},
}

func answerKindOf(path string) *answerKind {
	for i := range answerKinds {
		if strings.HasSuffix(path, answerKinds[i].path) {
			return &answerKinds[i]
		}
	}
	return &anyObject
}

var anyObject answerKind

func answerMember(path string) string { return answerKindOf(path).member }

// find returns the member that carries the answer, and its value; nil: there is
// none.
func (k *answerKind) find(m *members) (name string, value []byte) {
	if value = *m.place([]byte(k.member)); value != nil {
		return k.member, value
	}
	for _, other := range k.others {
		if value = *m.place([]byte(other)); value != nil {
			return other, value
		}
	}
	return k.member, nil
}

// checkList looks at an answer that is an array.
func (k *answerKind) checkList(array []byte) verdict {
	if isEmpty(array) {
		return verdict{batch.MalformedAnswer, "an array that is empty"}
	}
	return k.checkElements(k.member, array)
}

// checkElements looks at the elements of the member that carries the answer.
func (k *answerKind) checkElements(name string, array []byte) verdict {
	if slices.Contains(k.others, name) {
		return verdict{}
	}
	v := checkElements(name, array, "", nil)
	if v.reason != "" || len(k.element) == 0 {
		return v
	}
	eachElement(array, func(element []byte) {
		isNotNull := func(value []byte) bool { return string(value) != "null" }
		if !slices.ContainsFunc(k.element, func(member string) bool { return hasMember(element, member, isNotNull) }) {
			v = verdict{batch.MalformedAnswer, `an element of "` + name + `" without "` + strings.Join(k.element, `" or "`) + `"`}
		}
	})
	return v
}

// binaryTypes are what content types of bodies begin with that a line of JSON
// cannot hold.
var binaryTypes = []string{"audio/", "image/", "video/", "application/octet-stream"}

func isBinary(contentType string, body []byte) bool {
	contentType = strings.ToLower(strings.TrimSpace(contentType))
	return body[0] != '{' && body[0] != '[' &&
		slices.ContainsFunc(binaryTypes, func(prefix string) bool { return strings.HasPrefix(contentType, prefix) })
}
