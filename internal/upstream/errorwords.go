package upstream

import (
	"bytes"
	"encoding/json"
	"html"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

const (
	maxErrorBody    = 64 << 10
	maxErrorDepth   = 4
	maxMessageBytes = 512
)

// errorWords are what an error says of itself.
type errorWords struct {
	message string // what people are to read
	codes   []string
}

// readError reads an error as OpenAI and those who follow it write it: an object or a
// text in "error", or the members of that object at the top. Others put it into an
// array, nest it, or call its members otherwise. An error that says what was found in
// the prompt has the code flaggedCode too. Pages have their title for a message; of
// another text that is no JSON, asText says whether it is one.
func readError(body []byte, asText bool) (message string, codes []string) {
	if len(body) > maxErrorBody {
		return "", nil
	}
	body = bytes.TrimSpace(bytes.TrimPrefix(body, byteOrderMark))
	var w errorWords
	switch value := errorValue(body); {
	case len(value) > 0:
		w.read(value, 0)
	case len(body) > 0 && (body[0] == '<' || asText && body[0] != '{' && body[0] != '['):
		w.message = readText(body)
	}
	return strings.Join(strings.Fields(text(w.message, maxMessageBytes)), " "), w.codes
}

// errorValue returns the JSON object or array that a body is, or that its first event
// has, as of servers which answer a request for a stream; nil: there is none.
func errorValue(body []byte) []byte {
	if isStream("", append([]byte{0}, body...)[1:]) {
		for line := range bytes.Lines(body) {
			if data, found := bytes.CutPrefix(line, []byte("data:")); found {
				body = bytes.TrimSpace(data)
				break
			}
		}
	}
	if len(body) == 0 || body[0] != '{' && body[0] != '[' || !jsontext.Value(body).IsValid(jsonOptions) {
		return nil
	}
	return body
}

// read takes the words of a value; those that came before stay. Of what is in an
// object its "error" goes before what stands beside it.
func (w *errorWords) read(value []byte, depth int) {
	switch {
	case isEmpty(value) || depth > maxErrorDepth:
		return
	case value[0] == '"':
		w.say(value)
		return
	case value[0] == '[':
		w.read(firstElement(value), depth+1)
		return
	case value[0] != '{':
		return
	}
	named := make(map[string][]byte)
	for fields := newFieldScanner(value); ; {
		key, member, ok := fields.next()
		if !ok {
			break
		}
		named[string(memberName(key))] = member
	}
	for _, name := range []string{"error", "errors"} {
		w.read(named[name], depth+1)
	}
	for _, name := range []string{"type", "code", "error_type", "__type", "error"} {
		if code := readString(named[name]); code != "" && !strings.ContainsAny(code, " \n") {
			w.codes = append(w.codes, code)
		}
	}
	if metadata := named["metadata"]; len(metadata) > 0 && lastMember(metadata, "flagged_input") != nil { // of OpenRouter's moderation
		w.codes = append(w.codes, flaggedCode)
	}
	// FastAPI's word for message is detail, in which each problem has a msg.
	for _, name := range []string{"message", "detail", "msg", "error_message", "error_msg", "error_description", "title"} {
		w.read(named[name], depth+1)
	}
}

// say sets the message, if there is none yet.
func (w *errorWords) say(quoted []byte) {
	if w.message == "" {
		_ = json.Unmarshal(quoted, &w.message)
	}
}

var pageTitle = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

// readText reads an error that is no JSON: the title of a page, or a text.
func readText(body []byte) string {
	if body[0] == '<' {
		if title := pageTitle.FindSubmatch(body); title != nil {
			return html.UnescapeString(string(title[1]))
		}
		return ""
	}
	if !utf8.Valid(body) || bytes.ContainsFunc(body, func(r rune) bool { return isControl(r) && r != '\n' && r != '\r' && r != '\t' }) {
		return ""
	}
	return string(body)
}
