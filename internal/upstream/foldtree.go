package upstream

import (
	"bytes"
	"slices"
	"strconv"
)

const (
	// nodeBytes is about what a node takes beside its text. It counts towards the
	// limit of a body, so that empty members cannot fill the memory.
	nodeBytes = 96
	// maxFoldDepth is how deep the parts of a value are joined; what is deeper is
	// taken as it comes last.
	maxFoldDepth = 16
)

// foldRule is how a value that comes again changes one that came before. null
// changes nothing, whatever the rule.
type foldRule int

const (
	join     foldRule = iota // texts and arrays are appended, objects merged; numbers and the like replaced
	replace                  // objects are merged, all else replaced
	keep                     // the first one that is not empty stays
	joinName                 // a text is appended unless it merely comes again
	list                     // as join, but elements of arrays are never joined
)

// ruleOf is the rule of a member of a delta. What identifies a part, or says what
// it is, comes again with some servers and in pieces with none.
func ruleOf(key string) foldRule {
	switch key {
	case "id", "call_id", "signature":
		return keep
	case "role", "type", "index", "object", "format", "model", "created", "expires_at":
		return replace
	case "name":
		return joinName
	}
	return join
}

// node is a JSON value that is put together from parts.
type node struct {
	kind   byte   // '"', '{', '[', or 'v' for what is taken as written; 0: nothing yet
	text   []byte // of '"': as written, between the quotes, of 'v': as written; of '[': elements without an index, commas between
	fields []nodeField
	items  []*node // of '[': those with an index
	index  int64   // of an item
}

type nodeField struct {
	name string // as written
	node *node
}

// foldTree counts what its nodes hold.
type foldTree struct{ size int64 }

func (t *foldTree) newNode() *node {
	t.size += nodeBytes
	return new(node)
}

// member returns an object's member, which it adds if need be.
func (t *foldTree) member(n *node, name []byte) *node {
	for i := range n.fields {
		if n.fields[i].name == string(name) {
			return n.fields[i].node
		}
	}
	t.size += int64(len(name))
	added := t.newNode()
	n.kind = '{'
	n.fields = append(n.fields, nodeField{string(name), added})
	return added
}

func (n *node) find(name string) *node {
	for i := range n.fields {
		if n.fields[i].name == name {
			return n.fields[i].node
		}
	}
	return nil
}

// isUnset holds for what a first value replaces: nothing, null, and an empty
// text or zero, as gateways send it ahead of the first chunk.
func (n *node) isUnset() bool {
	switch n.kind {
	case 0:
		return true
	case '"':
		return len(n.text) == 0
	case 'v':
		return string(n.text) == "null" || string(n.text) == "0"
	}
	return false
}

// add joins a value, as written, with what the node holds. name is that of the
// member or array that the value is in.
func (t *foldTree) add(n *node, name string, value []byte, rule foldRule, depth int) {
	if string(value) == "null" {
		if n.kind == 0 {
			t.set(n, value)
		}
		return
	}
	if rule == keep && !n.isUnset() {
		return
	}
	switch {
	case depth >= maxFoldDepth:
		t.set(n, value)
	case value[0] == '{' && (n.isUnset() || n.kind == '{'):
		if n.kind != '{' {
			t.set(n, []byte("{}"))
			n.kind, n.text = '{', nil
		}
		t.addMembers(n, value, rule, depth)
	case value[0] == '[' && rule != replace && (n.isUnset() || n.kind == '['):
		if n.kind != '[' {
			t.set(n, []byte("[]"))
		}
		eachElement(value, func(element []byte) { t.addElement(n, name, element, rule, depth) })
	case value[0] == '"' && rule != replace && n.kind == '"':
		if part := value[1 : len(value)-1]; rule != joinName || !bytes.Equal(part, n.text) {
			n.text = append(n.text, part...)
			t.size += int64(len(part))
		}
	default:
		t.set(n, value)
	}
}

func (t *foldTree) addMembers(n *node, object []byte, rule foldRule, depth int) {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return
		}
		inner := rule
		if rule == join {
			inner = ruleOf(string(key))
		}
		t.add(t.member(n, key), string(key), value, inner, depth+1)
	}
}

// addElement adds an element of an array to it. Objects with an index are parts of
// the one with that index, others are appended.
func (t *foldTree) addElement(n *node, name string, element []byte, rule foldRule, depth int) {
	if rule != list {
		if item := t.item(n, name, element); item != nil {
			t.add(item, name, element, join, depth+1)
			return
		}
	}
	if len(n.text) > 0 {
		n.text = append(n.text, ',')
	}
	n.text = append(n.text, element...)
	t.size += int64(len(element)) + 1
}

// item finds the node that an element is a part of; nil: it is none of those that
// come in parts.
func (t *foldTree) item(n *node, name string, element []byte) *node {
	if element[0] != '{' {
		return nil
	}
	index, id, kind, function := []byte(nil), []byte(nil), []byte(nil), []byte(nil)
	for fields := newFieldScanner(element); ; {
		key, value, ok := fields.next()
		if !ok {
			break
		}
		switch string(key) {
		case "index":
			index = value
		case "id":
			id = value
		case "type":
			kind = value
		case "function":
			function = value
		}
	}
	last := int64(len(n.items)) - 1
	at, err := strconv.ParseInt(string(index), 10, 64)
	switch {
	case err == nil && at >= 0:
	case name == "tool_calls" && (isText(id) || last < 0 || hasMember(function, "name", isText)):
		at = last + 1 // the next one: some servers don't count
	case name == "tool_calls":
		at = max(last, 0)
	case name == "thinking_blocks": // of LiteLLM: a block ends with its signature
		if at = max(last, 0); last >= 0 && (n.items[last].isSigned() || !n.items[last].isKind(kind)) {
			at++
		}
	default:
		return nil
	}
	// Of several with one index the last is meant.
	for _, item := range slices.Backward(n.items) {
		if item.index != at {
			continue
		}
		if name == "tool_calls" && isText(id) && hasMember(function, "name", isText) && item.isOther("id", id) {
			break // a call of its own, from a server that counts none but the first
		}
		if name != "tool_calls" && !item.isKind(kind) {
			break // a part of another type
		}
		return item
	}
	item := t.newNode()
	item.index = at
	n.items = append(n.items, item)
	return item
}

// indexed returns the object with an index, which it adds to them if there is none.
func (t *foldTree) indexed(objects *[]*node, index int64) *node {
	for _, n := range *objects {
		if n.index == index {
			return n
		}
	}
	n := t.newNode()
	n.kind, n.index = '{', index
	*objects = append(*objects, n)
	return n
}

// clear makes the node hold nothing again.
func (t *foldTree) clear(n *node) { *n = node{index: n.index} }

// isText holds for a string that is not empty.
func isText(value []byte) bool { return len(value) > 2 && value[0] == '"' }

// isOther reports whether the object's member is a text other than the value.
func (n *node) isOther(name string, value []byte) bool {
	m := n.find(name)
	return m != nil && m.kind == '"' && len(m.text) > 0 && isText(value) && !bytes.Equal(m.text, value[1:len(value)-1])
}

func (n *node) isKind(kind []byte) bool { return !n.isOther("type", kind) }

func (n *node) isSigned() bool {
	m := n.find("signature")
	return m != nil && !m.isUnset()
}

// set makes the node hold a value as it is.
func (t *foldTree) set(n *node, value []byte) {
	t.size += int64(len(value) - len(n.text))
	n.fields, n.items = nil, nil
	n.kind = 'v'
	switch value[0] {
	case '"':
		n.kind, value = '"', value[1:len(value)-1]
	case '[':
		n.kind, value = '[', bytes.TrimSpace(value[1:len(value)-1])
	}
	n.text = append(n.text[:0], value...)
}

// append writes the value. Items come in the order of their indexes; those of a
// tool call are left out, as in an answer that is no stream.
func (n *node) append(b []byte, name string) []byte {
	switch n.kind {
	case '"':
		b = append(b, '"')
		b = append(b, n.text...)
		return append(b, '"')
	case '{':
		return n.appendMembers(append(b, '{'), "")
	case '[':
		b = append(b, '[')
		slices.SortStableFunc(n.items, func(x, y *node) int { return int(min(max(x.index-y.index, -1), 1)) })
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			if name == "tool_calls" && item.kind == '{' {
				b = item.appendMembers(append(b, '{'), "index")
				continue
			}
			b = item.append(b, "")
		}
		if len(n.items) > 0 && len(n.text) > 0 {
			b = append(b, ',')
		}
		b = append(b, n.text...)
		return append(b, ']')
	case 0:
		return append(b, "null"...)
	}
	return append(b, n.text...)
}

// appendMembers writes the members without the one named except, and the brace.
func (n *node) appendMembers(b []byte, except string) []byte {
	first := true
	for _, f := range n.fields {
		if f.name == except {
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, f.name...)
		b = append(b, '"', ':')
		b = f.node.append(b, f.name)
	}
	return append(b, '}')
}
