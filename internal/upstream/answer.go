package upstream

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
)

// verdict is what a body under a success status is; the zero value: an answer.
type verdict struct {
	reason batch.Reason
	detail string // nothing of the body
}

// checkAnswer tells an answer from what merely has a success status: pages of
// balancers and logins, errors in words or as an object, streams that nobody
// asked for, bodies that break off.
func checkAnswer(request *Request, resp *http.Response, body []byte, m *members, retried func(status int) bool) verdict {
	if !mayAnswer(resp.StatusCode) {
		return verdict{batch.NoAnswer, ""}
	}
	trimmed := bytes.TrimSpace(body)
	if len(trimmed) == 0 {
		return verdict{batch.NoAnswer, "an empty body"}
	}
	kind := answerKindOf(request.Path)
	if v := checkForm(resp.Header.Get("Content-Type"), trimmed, kind.list, retried); v.reason != "" {
		return v
	}
	if trimmed[0] == '[' {
		return kind.checkList(trimmed)
	}
	if v := checkMembers(request.Path, m, retried); v.reason != "" {
		return v
	}
	return kind.checkNumber(request.Body, m)
}

// mayAnswer holds for the success statuses that do not say themselves that there
// is no answer, not yet, or a part of one.
func mayAnswer(status int) bool {
	switch status {
	case http.StatusAccepted, http.StatusNoContent, http.StatusResetContent, http.StatusPartialContent:
		return false
	}
	return status >= 200 && status <= 299
}

// jsonOptions take what endpoints write and strict readers of JSON refuse.
var jsonOptions = json.JoinOptions(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// checkForm makes sure that the body is one JSON object; or, with list, an array.
func checkForm(contentType string, body []byte, list bool, retried func(status int) bool) verdict {
	switch {
	case isStream(contentType, body):
		return verdict{batch.UnexpectedStream, "an event stream"}
	case isBinary(contentType, body):
		return verdict{batch.BinaryAnswer, "audio, an image or other binary content"}
	}
	switch {
	case body[0] == '<':
		return verdict{batch.MalformedAnswer, "a page of HTML or XML"}
	case bytes.HasPrefix(body, byteOrderMark):
		return verdict{batch.MalformedAnswer, "a body that begins with a byte order mark"}
	}
	if body[0] == '{' && jsontext.Value(body).IsValid(jsonOptions) {
		return verdict{}
	}
	d := jsontext.NewDecoder(bytes.NewBuffer(body), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	switch err := d.SkipValue(); {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return verdict{batch.NetworkError, "a body that breaks off"}
	case err != nil:
		return verdict{batch.MalformedAnswer, "a body that is not JSON"}
	}
	switch rest := bytes.TrimSpace(body[d.InputOffset():]); {
	case body[0] == '[' && len(rest) == 0 && isError(firstElement(body)):
		m := readMembers(firstElement(body))
		return checkMembers("", &m, retried)
	case body[0] != '{' && (body[0] != '[' || !list):
		return verdict{batch.MalformedAnswer, "JSON that is no object"}
	case len(rest) > 0 && rest[0] == '{':
		return verdict{batch.UnexpectedStream, "several JSON objects"}
	case len(rest) > 0:
		return verdict{batch.MalformedAnswer, "more after the JSON object"}
	}
	return verdict{}
}

// streamFields are what a line of an event stream may begin with.
var streamFields = []string{"data:", "event:", "id:", "retry:", ":"}

func isStream(contentType string, body []byte) bool {
	if strings.HasPrefix(strings.ToLower(contentType), "text/event-stream") {
		return body[0] != '{' && body[0] != '<'
	}
	for _, field := range streamFields {
		if bytes.HasPrefix(body, []byte(field)) {
			return true
		}
	}
	return false
}

func checkMembers(path string, m *members, retried func(int) bool) verdict {
	switch {
	case !isNothing(m.errored):
		v := classifyError(m.errored, m, retried)
		if v.reason == batch.NonRetriableErrorBody && answerMember(path) == "output" {
			v = verdict{batch.ResponseFailed, "a response that failed"}
		}
		return v
	case m.isError():
		return classifyErrorMembers(m, retried)
	}
	kind := answerKindOf(path)
	if kind.member == "" {
		return verdict{}
	}
	name, value := kind.find(m)
	if name == "output" {
		if v := checkStatus(m); v.reason != "" {
			return v
		}
	}
	switch {
	case value == nil && hasErrorCode(m):
		return classifyErrorMembers(m, retried)
	case value == nil:
		return verdict{batch.MalformedAnswer, `an object without "` + name + `"`}
	case value[0] != '[':
		return verdict{batch.MalformedAnswer, `"` + name + `" that is no array`}
	case isEmpty(value) && name != "output" && name != "content":
		return verdict{batch.MalformedAnswer, `"` + name + `" that is empty`}
	case name == "choices":
		return checkChoices(path, value, retried)
	case name == "data" && strings.HasSuffix(path, "/embeddings"):
		return checkElements(name, value, "embedding", isEmbedding)
	}
	return kind.checkElements(name, value)
}

// isEmbedding holds for a vector, several of them, or one in base64; engines
// write what is not a number as null.
func isEmbedding(value []byte) bool {
	if value[0] == '[' {
		return len(firstElement(value)) > 0 && !bytes.Contains(value, []byte("null"))
	}
	return value[0] == '"' && len(value) > len(`""`)
}

// checkStatus looks at the status of a response of /v1/responses.
func checkStatus(m *members) verdict {
	switch status := readString(m.status); status {
	case "completed", "":
		return verdict{}
	case "incomplete":
		return verdict{batch.ResponseIncomplete, `a response whose status is "incomplete"`}
	case "queued", "in_progress":
		return verdict{batch.ResponseUnfinished, `a response whose status is "` + status + `"`}
	}
	return verdict{batch.ResponseFailed, "a response that failed or was cancelled"}
}

// checkChoices makes sure that each choice has what its path's choices carry: an
// object "message" that has a member, or a string "text". One that broke off is none.
func checkChoices(path string, choices []byte, retried func(int) bool) verdict {
	carrier, isCarrier := "text", func(value []byte) bool { return value[0] == '"' }
	if strings.HasSuffix(path, "/chat/completions") {
		carrier, isCarrier = "message", func(value []byte) bool { return value[0] == '{' && !isEmpty(value) }
	}
	v := checkElements("choices", choices, "", nil)
	eachElement(choices, func(choice []byte) {
		fields, carries := newFieldScanner(choice), false
		for v.reason == "" {
			key, value, ok := fields.next()
			if !ok {
				break
			}
			switch string(memberName(key)) {
			case "finish_reason":
				if reason := readString(value); brokeOff(reason) {
					v = verdict{batch.RetriableErrorBody, `a choice whose finish_reason is "` + reason + `"`}
				}
			case "error":
				if !isNothing(value) {
					v = classifyError(value, nil, retried)
				}
			case carrier:
				carries = isCarrier(value)
			}
		}
		if v.reason == "" && !carries {
			v = verdict{batch.MalformedAnswer, `a choice without a "` + carrier + `"`}
		}
	})
	return v
}

// brokeOff holds for the reasons that say that an engine did not end a text but
// stopped, dropped the request or lacked something. Those of limits and filters are
// ends. vLLM and SGLang write abort, DeepSeek insufficient_system_resource:
// https://api-docs.deepseek.com/api/create-chat-completion.
func brokeOff(reason string) bool {
	switch strings.ToLower(reason) {
	case "error", "server_error", "internal_error", "abort", "aborted", "cancelled", "canceled", "timeout",
		"insufficient_system_resource", "engine_overloaded", "overloaded":
		return true
	}
	return false
}

// checkElements makes sure that all elements are objects, and that they have a
// member for which valid holds; member is empty: any.
func checkElements(name string, array []byte, member string, valid func(value []byte) bool) verdict {
	v := verdict{}
	eachElement(array, func(element []byte) {
		switch {
		case element[0] != '{':
			v = verdict{batch.MalformedAnswer, `an element of "` + name + `" that is no object`}
		case member != "" && !hasMember(element, member, valid):
			v = verdict{batch.MalformedAnswer, `an element of "` + name + `" without "` + member + `"`}
		}
	})
	return v
}

func hasMember(object []byte, name string, valid func(value []byte) bool) bool {
	for fields := newFieldScanner(object); ; {
		key, value, ok := fields.next()
		if !ok {
			return false
		}
		if isKey(key, name) {
			return valid(value)
		}
	}
}

// eachElement calls each with the elements of a valid JSON array, as written.
func eachElement(array []byte, each func(element []byte)) {
	for rest := skipSpace(array[1:]); len(rest) > 0 && rest[0] != ']'; {
		end := valueEnd(rest)
		if end <= 0 {
			return
		}
		each(rest[:end])
		rest = skipSpace(rest[end:])
		if len(rest) > 0 && rest[0] == ',' {
			rest = skipSpace(rest[1:])
		}
	}
}

// firstElement returns the first element of a valid JSON array, as written; nil:
// it has none.
func firstElement(array []byte) []byte {
	rest := skipSpace(array[1:])
	if len(rest) == 0 || rest[0] == ']' {
		return nil
	}
	end := valueEnd(rest)
	if end <= 0 {
		return nil
	}
	return rest[:end]
}
