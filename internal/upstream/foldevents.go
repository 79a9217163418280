package upstream

import (
	"bytes"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
)

// responseFolder folds the events of /responses: the last one holds the whole
// response.
type responseFolder struct{ response []byte }

func (f *responseFolder) add(event string, object []byte) progress {
	var kind string
	var response []byte
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		switch string(key) {
		case "type":
			kind = readString(value)
		case "response":
			response = value
		}
	}
	if kind == "" {
		kind = event
	}
	switch kind {
	case "response.completed", "response.incomplete", "response.failed", "response.cancelled", "response.done":
		if len(response) > 0 && response[0] == '{' {
			f.response = bytes.Clone(response)
			return ended
		}
		return malformed
	case "", "ping", "keepalive":
		return nothing
	}
	if strings.HasSuffix(kind, ".delta") {
		return token
	}
	return underway
}

func (f *responseFolder) whole() bool  { return f.response != nil }
func (f *responseFolder) bytes() int64 { return int64(len(f.response)) }
func (f *responseFolder) body() []byte { return f.response }

// messageFolder folds the events of /messages, as Anthropic documents them.
type messageFolder struct {
	tree    foldTree
	message node
	blocks  []*node
}

func (f *messageFolder) add(event string, object []byte) progress {
	kind, index := event, int64(0)
	var message, block, delta []byte
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		switch string(key) {
		case "type":
			kind = readString(value)
		case "index":
			index = readCount(value)
		case "message":
			message = value
		case "content_block":
			block = value
		case "delta":
			delta = value
		}
	}
	switch kind {
	case "message_start":
		f.addTo(&f.message, "message", message, replace)
	case "content_block_start":
		f.addTo(f.tree.indexed(&f.blocks, index), "content_block", block, replace)
	case "content_block_delta":
		f.addDelta(f.tree.indexed(&f.blocks, index), delta)
		return token
	case "message_delta":
		f.addTo(&f.message, "delta", delta, replace)
		f.addBeside(object)
	case "message_stop":
		if len(f.message.fields) == 0 {
			return malformed
		}
		return ended
	case "content_block_stop":
	default:
		return nothing
	}
	return underway
}

// addBeside adds what stands beside the delta of a message: the usage and the like.
func (f *messageFolder) addBeside(object []byte) {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return
		}
		if name := string(key); name != "type" && name != "delta" {
			f.addTo(f.tree.member(&f.message, key), name, value, replace)
		}
	}
}

func (f *messageFolder) addTo(n *node, name string, value []byte, rule foldRule) {
	if len(value) > 0 {
		f.tree.add(n, name, value, rule, 0)
	}
}

// partialJSON is where the pieces of a tool's input are kept. No block has a
// member of this name, since a key holds no raw control character.
const partialJSON = "\x00input"

// addDelta adds a part of a block: text, thinking, its signature, a citation, or
// a piece of the JSON of a tool's input.
func (f *messageFolder) addDelta(block *node, delta []byte) {
	for fields := newFieldScanner(delta); ; {
		key, value, ok := fields.next()
		if !ok {
			return
		}
		switch name := string(key); name {
		case "type":
		case "partial_json":
			f.tree.add(f.tree.member(block, []byte(partialJSON)), name, value, join, 0)
		case "citation":
			list := append(append([]byte{'['}, value...), ']')
			f.tree.add(f.tree.member(block, []byte("citations")), "citations", list, join, 0)
		default:
			f.tree.add(f.tree.member(block, key), name, value, join, 0)
		}
	}
}

func (f *messageFolder) whole() bool {
	reason := f.message.find("stop_reason")
	return reason != nil && !reason.isUnset()
}

func (f *messageFolder) bytes() int64 { return f.tree.size }

func (f *messageFolder) body() []byte {
	all := node{kind: '['}
	for _, b := range f.blocks {
		f.setInput(b)
		all.items = append(all.items, b)
	}
	*f.tree.member(&f.message, []byte("content")) = all
	return f.message.append(make([]byte, 0, f.tree.size), "")
}

// setInput makes a tool's input of its pieces. If the model was cut off they are no
// JSON, and are kept as a text in the way that Anthropic recommends.
func (f *messageFolder) setInput(block *node) {
	pieces := block.find(partialJSON)
	if pieces == nil {
		return
	}
	text, err := jsontext.AppendUnquote(nil, pieces.append(nil, ""))
	switch {
	case err != nil:
	case len(bytes.TrimSpace(text)) == 0:
	case jsontext.Value(text).IsValid(jsontext.AllowDuplicateNames(true)):
		f.tree.set(f.tree.member(block, []byte("input")), text)
	default:
		wrapped := append([]byte(`{"INVALID_JSON":`), pieces.append(nil, "")...)
		f.tree.set(f.tree.member(block, []byte("input")), append(wrapped, '}'))
	}
	for i := range block.fields {
		if block.fields[i].name == partialJSON {
			block.fields = append(block.fields[:i], block.fields[i+1:]...)
			break
		}
	}
}
