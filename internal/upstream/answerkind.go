package upstream

import (
	"fmt"
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
	// inputs is the member of the request with what has an element of the answer
	// each; empty: nothing tells how many there are. Of a prompt there may be several.
	inputs  string
	several bool
}

// answerKinds: of two that end a path the first counts. OpenAI's shapes, those of
// vLLM for what OpenAI does not have, and Anthropic's of messages; SGLang
// answers a rerank with an array, a score with "scores", and a classify with
// "embedding".
var answerKinds = []answerKind{
	{path: "/chat/completions", member: "choices"},
	{path: "/completions", member: "choices", inputs: "prompt", several: true},
	{path: "/embeddings", member: "data", inputs: "input"},
	{path: "/responses", member: "output"},
	{path: "/moderations", member: "results", element: []string{"flagged", "categories"}, inputs: "input"},
	{path: "/images/generations", member: "data", element: []string{"b64_json", "url"}},
	{path: "/images/edits", member: "data", element: []string{"b64_json", "url"}},
	{path: "/rerank", member: "results", others: []string{"data"}, list: true, element: []string{"relevance_score", "score", "index"}},
	{path: "/score", member: "data", others: []string{"scores"}, element: []string{"score"}, inputs: "text_2"},
	{path: "/classify", member: "data", others: []string{"embedding"}, list: true, element: []string{"label", "probs", "score", "embedding"}, inputs: "input"},
	{path: "/pooling", member: "data", element: []string{"data", "embedding"}, inputs: "input"},
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
		isNotNull := func(value []byte) bool { return string(value) != "null" && string(value) != `""` }
		if !slices.ContainsFunc(k.element, func(member string) bool { return hasMember(element, member, isNotNull) }) {
			v = verdict{batch.MalformedAnswer, `an element of "` + name + `" without "` + strings.Join(k.element, `" or "`) + `"`}
		}
	})
	return v
}

// checkNumber makes sure that each input of the request has its element: who reads
// the answer goes by their order.
func (k *answerKind) checkNumber(request []byte, m *members) verdict {
	if k.inputs == "" {
		return verdict{}
	}
	value := *m.place([]byte(k.member))
	if len(value) == 0 || value[0] != '[' {
		return verdict{}
	}
	want, n := countInputs(lastMember(request, k.inputs)), 0
	eachElement(value, func([]byte) { n++ })
	if want == 0 || n == want || k.several && n > want {
		return verdict{}
	}
	return verdict{batch.MalformedAnswer, fmt.Sprintf("%q of %d elements for %d inputs", k.member, n, want)}
}

// lastMember returns a member of an object, of several with one name the last; nil: it
// has none.
func lastMember(object []byte, name string) (last []byte) {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return last
		}
		if isKey(key, name) {
			last = value
		}
	}
}

// countInputs returns how many inputs there are: a text, a list of tokens, or a list
// of either; 0: it is something else, such as the parts of one input.
func countInputs(inputs []byte) (n int) {
	switch {
	case len(inputs) == 0:
		return 0
	case inputs[0] == '"':
		return 1
	case inputs[0] != '[':
		return 0
	}
	tokens, other := false, false
	eachElement(inputs, func(element []byte) {
		switch c := element[0]; {
		case c == '"', c == '[':
			n++
		case c >= '0' && c <= '9':
			tokens = true
		default:
			other = true
		}
	})
	switch {
	case other, tokens && n > 0:
		return 0
	case tokens:
		return 1
	}
	return n
}

// binaryTypes are what content types of bodies begin with that a line of JSON
// cannot hold.
var binaryTypes = []string{"audio/", "image/", "video/", "application/octet-stream"}

func isBinary(contentType string, body []byte) bool {
	contentType = strings.ToLower(strings.TrimSpace(contentType))
	return body[0] != '{' && body[0] != '[' &&
		slices.ContainsFunc(binaryTypes, func(prefix string) bool { return strings.HasPrefix(contentType, prefix) })
}
