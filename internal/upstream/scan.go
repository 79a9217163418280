package upstream

import (
	"bytes"
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
)

// fieldScanner walks the fields of one JSON object and skips over what they
// hold. It is meant for valid JSON; given anything else it ends early.
type fieldScanner struct{ rest []byte }

func newFieldScanner(object []byte) fieldScanner {
	object = skipSpace(object)
	if len(object) == 0 || object[0] != '{' {
		return fieldScanner{}
	}
	return fieldScanner{rest: object[1:]}
}

// next returns the next field: its key as written, without quotes, and its
// value as written.
func (s *fieldScanner) next() (key, value []byte, ok bool) {
	b := skipSpace(s.rest)
	s.rest = nil
	if len(b) > 0 && b[0] == ',' {
		b = skipSpace(b[1:])
	}
	if len(b) == 0 || b[0] != '"' {
		return nil, nil, false
	}
	end := stringEnd(b)
	if end < 0 {
		return nil, nil, false
	}
	key, b = b[1:end-1], skipSpace(b[end:])
	if len(b) == 0 || b[0] != ':' {
		return nil, nil, false
	}
	b = skipSpace(b[1:])
	if end = valueEnd(b); end <= 0 {
		return nil, nil, false
	}
	s.rest = b[end:]
	return key, b[:end], true
}

// memberWalker walks the members of an object as fieldScanner does, but stops
// where its top level is not JSON.
type memberWalker struct {
	key, value []byte // as written; the key without its quotes
	object     bool   // it begins as one
	whole      bool   // it was walked to its end, and nothing but blanks follows
	size       int
	some       bool
	rest       []byte // behind what has been walked
}

func walkMembers(object []byte) memberWalker {
	fields := newFieldScanner(object)
	return memberWalker{object: fields.rest != nil, size: len(object), rest: fields.rest}
}

// offset is behind the last member, or behind the brace.
func (w *memberWalker) offset() int { return w.size - len(w.rest) }

// next moves on to the next member, if there is one.
func (w *memberWalker) next() bool {
	b := skipSpace(w.rest)
	if len(b) > 0 && b[0] == '}' {
		w.whole = len(skipSpace(b[1:])) == 0
		return false
	}
	if w.some {
		if len(b) == 0 || b[0] != ',' {
			return false
		}
		b = skipSpace(b[1:])
	}
	if len(b) == 0 || b[0] != '"' {
		return false
	}
	fields, ok := fieldScanner{b}, false
	if w.key, w.value, ok = fields.next(); !ok || !beginsValue(w.value) {
		return false
	}
	w.rest, w.some = fields.rest, true
	return true
}

// beginsValue reports whether it begins as a value; of those that are neither
// strings nor numbers nor hold others it is all of one.
func beginsValue(b []byte) bool {
	switch {
	case b[0] == '"', b[0] == '{', b[0] == '[', b[0] == '-', b[0] >= '0' && b[0] <= '9':
		return true
	}
	return string(b) == "true" || string(b) == "false" || string(b) == "null"
}

func skipSpace(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\n' || b[0] == '\r' || b[0] == '\t') {
		b = b[1:]
	}
	return b
}

// stringEnd returns the index behind the string that b begins with, or -1.
func stringEnd(b []byte) int {
	for i := 1; i < len(b); {
		quote := bytes.IndexByte(b[i:], '"')
		if quote < 0 {
			return -1
		}
		i += quote + 1
		escapes := 0
		for b[i-2-escapes] == '\\' {
			escapes++
		}
		if escapes%2 == 0 {
			return i
		}
	}
	return -1
}

// valueEnd returns the index behind the value that b begins with, or -1.
func valueEnd(b []byte) int {
	depth := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			end := stringEnd(b[i:])
			if end < 0 {
				return -1
			}
			i += end - 1
			if depth == 0 {
				return i + 1
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth == 0 {
				return i
			}
			if depth--; depth == 0 {
				return i + 1
			}
		case ',', ' ', '\n', '\r', '\t':
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// memberName is a key without its escapes.
func memberName(key []byte) []byte {
	if bytes.IndexByte(key, '\\') < 0 {
		return key
	}
	var name string
	if json.Unmarshal(append(append([]byte{'"'}, key...), '"'), &name) != nil {
		return key
	}
	return []byte(name)
}

// isKey reports whether a key as written, without its quotes, stands for the name.
func isKey(key []byte, name string) bool {
	if bytes.IndexByte(key, '\\') < 0 {
		return string(key) == name
	}
	text, err := jsontext.AppendUnquote(nil, `"`+string(key)+`"`)
	return err == nil && string(text) == name
}
