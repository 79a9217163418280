package upstream

import (
	"bytes"
	"regexp"

	"github.com/go-json-experiment/json/jsontext"
)

// progress is what an event brings.
type progress int

const (
	nothing   progress = iota // a keep-alive, or what is not known
	underway                  // the stream goes on
	token                     // a part of the answer
	ended                     // the answer is whole: what follows says nothing
	failed                    // an error in place of the rest of the answer
	malformed                 // nothing that can be read
)

// folder puts an answer together from its events, as the endpoint would have
// answered without a stream. What it returns is valid JSON only if the events
// were.
type folder interface {
	// add takes the data of an event: one JSON object.
	add(event string, object []byte) progress
	// whole reports whether nothing of the answer is missing if the stream ends
	// here, without its mark.
	whole() bool
	// bytes is about how much memory the answer takes so far.
	bytes() int64
	// body returns the answer.
	body() []byte
}

func newFolder(ask streamAsk) folder {
	switch ask.kind {
	case responseStream:
		return &responseFolder{}
	case messageStream:
		return &messageFolder{}
	}
	return &chunkFolder{kind: ask.kind, expected: ask.choices}
}

// fold adds the data of an event. Some servers end their events with one line end
// where two belong, so that it holds several objects. failure is the object that
// holds an error, if that is what came.
func fold(f folder, event string, data []byte) (p progress, failure []byte) {
	data = bytes.TrimSpace(data)
	for len(data) > 0 && data[0] == '{' {
		end := valueEnd(data)
		if end <= 0 || !jsontext.Value(data[:end]).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) {
			return malformed, nil
		}
		object := data[:end]
		switch {
		case event == "ping", event == "keepalive":
		case event == "error" || isErrorObject(object):
			return failed, object
		default:
			p = max(p, f.add(event, object))
		}
		if p == failed {
			return p, object
		}
		if p == ended {
			return p, nil
		}
		data = bytes.TrimSpace(data[end:])
	}
	switch {
	case bytes.EqualFold(data, []byte("[DONE]")):
		return ended, nil
	case event == "error" && len(data) > 0:
		text, err := jsontext.AppendQuote(nil, data)
		if err != nil {
			text = []byte(`"an error"`)
		}
		return failed, append(append([]byte(`{"error":`), text...), '}')
	case len(data) > 0 && !isKeepAlive(event, data):
		return malformed, nil // a part may be lost with it
	}
	return p, nil
}

// isKeepAlive holds for what servers send as data to keep a connection alive: words
// such as ping, and values of JSON that are no object.
func isKeepAlive(event string, data []byte) bool {
	if event == "ping" || event == "keepalive" || event == "heartbeat" || jsontext.Value(data).IsValid() {
		return true
	}
	return len(data) <= maxKeepAliveBytes && keepAlive.Match(data)
}

const maxKeepAliveBytes = 64

// keepAlive: OpenRouter, for one, says what it is doing.
var keepAlive = regexp.MustCompile(`(?i)^[\w :.-]*\b(ping|heart-?beat|keep-?alive|processing|waiting)\b[\w :.-]*$`)

// isErrorObject holds for an event that says that the answer ends in an error.
func isErrorObject(object []byte) bool {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return false
		}
		switch string(key) {
		case "error":
			if !isNothing(value) {
				return true
			}
		case "object", "type":
			if string(value) == `"error"` {
				return true
			}
		}
	}
}

// chunkFolder folds the chunks of /chat/completions and /completions. The rules
// are those by which OpenAI's clients accumulate deltas, except where servers that
// are not OpenAI's repeat what these would append: ids, roles, names.
type chunkFolder struct {
	tree     foldTree
	kind     streamKind
	expected int  // choices
	top      node // without choices
	choices  []*node
	stray    []byte // an object that is no chunk, if no choice has come before it
}

func (f *chunkFolder) add(_ string, object []byte) progress {
	p, isChunk := nothing, false
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		p = max(p, underway)
		switch string(key) {
		case "choices":
			isChunk = true
			f.tree.member(&f.top, key) // its place
			if value[0] == '[' {
				eachElement(value, func(choice []byte) {
					if choice[0] == '{' && f.addChoice(choice) {
						p = token
					}
				})
			}
		case "obfuscation": // of OpenAI: padding of the chunk
		case "id", "object", "created", "model":
			f.tree.add(f.tree.member(&f.top, key), string(key), value, keep, 0)
		default:
			f.tree.add(f.tree.member(&f.top, key), string(key), value, replace, 0)
		}
	}
	if isChunk || len(f.choices) > 0 {
		return p
	}
	if m := readMembers(object); hasErrorCode(&m) {
		return failed
	}
	if f.stray == nil && len(object) <= maxErrorBody {
		f.stray = bytes.Clone(object)
	}
	return p
}

func (f *chunkFolder) addChoice(object []byte) (isToken bool) {
	index, hasDelta := int64(0), false
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		switch string(key) {
		case "index":
			index = readCount(value)
		case "delta":
			hasDelta = !isNothing(value)
		}
	}
	choice := f.tree.indexed(&f.choices, index)
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return isToken
		}
		name, rule := string(key), replace
		switch name {
		case "delta":
			name, rule = "message", join
			isToken = isToken || hasContent(value)
		case "message": // a whole one, of gateways that pretend to stream
			isToken = isToken || hasContent(value)
			if hasDelta { // as Perplexity repeats in it what has come so far
				continue
			}
			f.tree.clear(f.tree.member(choice, key))
		case "text", "token_ids":
			rule = join
			isToken = isToken || len(value) > 2 && string(value) != "null"
		case "logprobs":
			rule = list
		}
		f.tree.add(f.tree.member(choice, []byte(name)), name, value, rule, 0)
	}
}

// hasContent reports whether a delta holds anything but the role.
func hasContent(delta []byte) bool {
	for fields := newFieldScanner(delta); ; {
		key, value, ok := fields.next()
		if !ok {
			return false
		}
		if string(key) != "role" && !isNothing(value) {
			return true
		}
	}
}

func (f *chunkFolder) whole() bool {
	for _, c := range f.choices {
		if end := c.find("finish_reason"); end == nil || end.isUnset() || string(end.text) == "null" {
			return false
		}
	}
	return len(f.choices) >= max(f.expected, 1)
}

// instead returns what came in place of chunks; nil: nothing.
func (f *chunkFolder) instead() []byte {
	if len(f.choices) > 0 {
		return nil
	}
	return f.stray
}

func (f *chunkFolder) bytes() int64 { return f.tree.size }

func (f *chunkFolder) body() []byte {
	all := &node{kind: '['}
	for _, c := range f.choices {
		if f.kind == chatStream {
			f.complete(c)
		}
		all.items = append(all.items, c)
	}
	*f.tree.member(&f.top, []byte("choices")) = *all
	if object := f.top.find("object"); object != nil && object.kind == '"' {
		object.text = bytes.TrimSuffix(object.text, []byte(".chunk"))
	}
	return f.top.append(make([]byte, 0, f.tree.size), "")
}

// complete adds what a message has and deltas may lack.
func (f *chunkFolder) complete(choice *node) {
	index := f.tree.member(choice, []byte("index"))
	if index.kind == 0 {
		f.tree.set(index, []byte("0"))
	}
	message := choice.find("message")
	if message == nil || message.kind != '{' {
		return
	}
	if role := f.tree.member(message, []byte("role")); role.isUnset() {
		f.tree.set(role, []byte(`"assistant"`))
	}
	f.tree.member(message, []byte("content")) // null
}
