package upstream

import (
	"bytes"
	"encoding/json"
	"strconv"

	"fusillade/internal/batch"
)

// readUsage takes the model and the token counts from an answer's members.
// What is absent, or not of the expected type, is left zero.
func readUsage(m *members) (model string, usage batch.Usage) {
	return readString(m.model), readTokens(m.usage)
}

func readTokens(object []byte) (usage batch.Usage) {
	fields := newFieldScanner(object)
	for {
		key, value, ok := fields.next()
		if !ok {
			return usage
		}
		switch string(key) {
		case "prompt_tokens", "input_tokens":
			usage.PromptTokens = readCount(value)
		case "completion_tokens", "output_tokens":
			usage.CompletionTokens = readCount(value)
		case "prompt_tokens_details", "input_tokens_details":
			usage.CachedTokens = readDetail(value, "cached_tokens")
		case "completion_tokens_details", "output_tokens_details":
			usage.ReasoningTokens = readDetail(value, "reasoning_tokens")
		}
	}
}

func readDetail(object []byte, name string) int64 {
	fields := newFieldScanner(object)
	for {
		key, value, ok := fields.next()
		if !ok {
			return 0
		}
		if string(key) == name {
			return readCount(value)
		}
	}
}

func readCount(value []byte) int64 {
	n, err := strconv.ParseInt(string(value), 10, 64)
	if err != nil {
		return 0
	}
	return max(n, 0)
}

func readString(value []byte) string {
	if len(value) < 2 || value[0] != '"' {
		return ""
	}
	if bytes.IndexByte(value, '\\') < 0 {
		return text(string(value[1:len(value)-1]), maxNameBytes)
	}
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return text(s, maxNameBytes)
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
