package upstream

import (
	"bytes"
	"math"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// streamKind is how the events of a streamed answer are folded; 0: not at all.
type streamKind int

const (
	chatStream     streamKind = iota + 1 // chunks with choices, also those of /completions
	textStream                           // those of /completions
	responseStream                       // the last event holds the answer
	messageStream                        // content blocks
)

// streamKinds are the paths whose streamed answers are folded, by their ends.
var streamKinds = []struct {
	path string
	kind streamKind
}{
	{"/chat/completions", chatStream},
	{"/completions", textStream},
	{"/responses", responseStream},
	{"/messages", messageStream},
}

func streamKindOf(path string) streamKind {
	path, _, _ = strings.Cut(path, "?")
	for _, k := range streamKinds {
		if strings.HasSuffix(path, k.path) {
			return k.kind
		}
	}
	return 0
}

// streamAsk is a request's body as it is sent, and what it asks for.
type streamAsk struct {
	body []byte
	kind streamKind // 0: it asks for no stream
	// usage says that body asks for the usage because it was added, not because
	// the request itself does.
	usage bool
	// choices is how many choices the answer will have.
	choices int
	model   string // as written
}

// mayAskStream reports whether the body may have a member "stream". Almost none
// has, and this costs little.
func mayAskStream(body []byte) bool {
	return bytes.Contains(body, []byte(`"stream"`)) ||
		bytes.Contains(body, []byte(`\u007`)) || bytes.Contains(body, []byte(`\u006`)) // "stre\u0061m"
}

// askStream finds out whether the request asks for a streamed answer, and makes
// it ask for one where want is set. A stream of chunks is also asked for the
// usage, which only its last chunk has, if withUsage is set. Bytes are spliced in:
// nothing else of the body changes, and the body itself never does.
func askStream(path string, body []byte, want, withUsage bool) streamAsk {
	plain := streamAsk{body: body}
	kind := streamKindOf(path)
	if kind == 0 || !want && !mayAskStream(body) {
		return plain
	}
	fields := newFieldScanner(body)
	if len(fields.rest) == 0 {
		return plain
	}
	begin := len(body) - len(fields.rest) // behind the brace
	ask := streamAsk{kind: kind, choices: 1}
	var edits []edit
	var stream, options *edit
	asks, n, prompts, empty := false, 1, 1, true
	for {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		empty = false
		end := len(body) - len(fields.rest)
		at := edit{from: end - len(value), to: end}
		switch {
		case isKey(key, "stream"):
			asks, stream = string(value) == "true", &at
			if want && !asks {
				edits = append(edits, edit{at.from, at.to, "true"})
			}
		case isKey(key, "stream_options"):
			options = &at
		case isKey(key, "model"):
			ask.model = text(string(value), maxNameBytes)
		case isKey(key, "n"):
			n = max(int(min(readCount(value), math.MaxInt32)), 1)
		case isKey(key, "prompt") && kind == textStream:
			prompts = countPrompts(value)
		}
	}
	if !want && !asks {
		return plain
	}
	ask.choices = n * prompts
	added := ""
	if want && stream == nil {
		added = `"stream":true`
	}
	if withUsage && (kind == chatStream || kind == textStream) {
		if options == nil {
			if added != "" {
				added += ","
			}
			added += `"stream_options":{"include_usage":true}`
			ask.usage = true
		} else if e, ok := includeUsage(body[options.from:options.to]); ok {
			e.from, e.to = e.from+options.from, e.to+options.from
			edits = append(edits, e)
			ask.usage = true
		}
	}
	if added != "" {
		edits = append(edits, firstMember(begin, added, empty))
	}
	ask.body = splice(body, edits)
	return ask
}

// includeUsage makes the value of "stream_options" ask for the usage; false: it
// does already, or is nothing that can.
func includeUsage(options []byte) (e edit, ok bool) {
	if string(options) == "null" {
		return edit{0, len(options), `{"include_usage":true}`}, true
	}
	if options[0] != '{' {
		return edit{}, false
	}
	fields, empty := newFieldScanner(options), true
	for {
		key, value, more := fields.next()
		if !more {
			break
		}
		empty = false
		if isKey(key, "include_usage") {
			end := len(options) - len(fields.rest)
			e, ok = edit{end - len(value), end, "true"}, string(value) != "true"
			return e, ok
		}
	}
	return firstMember(1, `"include_usage":true`, empty), true
}

// countPrompts returns how many prompts the member "prompt" holds: it is a text,
// a list of tokens, or a list of either.
func countPrompts(prompt []byte) int {
	n := 0
	if len(prompt) > 0 && prompt[0] == '[' {
		eachElement(prompt, func(element []byte) {
			if element[0] == '"' || element[0] == '[' {
				n++
			}
		})
	}
	return max(n, 1)
}

// edit replaces the bytes of a body from one place to another.
type edit struct {
	from, to int
	text     string
}

// firstMember puts a member, or several, in front of all of an object whose members
// begin there. empty: it has none.
func firstMember(at int, member string, empty bool) edit {
	if !empty {
		member += ","
	}
	return edit{at, at, member}
}

// splice returns the body with the edits, which do not overlap.
func splice(body []byte, edits []edit) []byte {
	if len(edits) == 0 {
		return body
	}
	size := len(body)
	for i, e := range edits { // a handful, almost in order
		size += len(e.text)
		for j := i; j > 0 && edits[j].from < edits[j-1].from; j-- {
			edits[j], edits[j-1] = edits[j-1], edits[j]
		}
	}
	out, copied := make([]byte, 0, size), 0
	for _, e := range edits {
		out = append(append(out, body[copied:e.from]...), e.text...)
		copied = e.to
	}
	return append(out, body[copied:]...)
}

// isKey reports whether a key as written, without its quotes, stands for the name.
func isKey(key []byte, name string) bool {
	if bytes.IndexByte(key, '\\') < 0 {
		return string(key) == name
	}
	text, err := jsontext.AppendUnquote(nil, `"`+string(key)+`"`)
	return err == nil && string(text) == name
}
