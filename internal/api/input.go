package api

import (
	"bytes"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
)

// input is an HTTP request that params read themselves from. It keeps the
// first problem; what is read after that is of no use.
type input struct {
	*call
	values url.Values
	// known are the query parameters that were read; nil: any are ignored.
	known []string
	// resource is what the path names.
	resource resource
	err      error
}

func newInput(c *call) *input {
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return &input{call: c, err: invalid("", "invalid_query", "The query string could not be parsed.")}
	}
	return &input{call: c, values: values}
}

func (in *input) fail(err error) {
	if in.err == nil {
		in.err = err
	}
}

// done returns the first problem, unknown query parameters included.
func (in *input) done() error {
	if in.err != nil || in.known == nil {
		return in.err
	}
	for name := range in.values {
		if !slices.Contains(in.known, name) {
			return invalid(shorten(name), "unknown_parameter", "Unknown parameter: %s.", quote(name))
		}
	}
	return nil
}

// ignoredParameter is what AzureOpenAI's clients add to every URL.
const ignoredParameter = "api-version"

// noQuery refuses all query parameters.
func (in *input) noQuery() { in.known = append(in.known, ignoredParameter) }

// header returns a header that is text of 1 to so many bytes, or "" if there is
// none.
func (in *input) header(name string, maxBytes int) string {
	values := in.Header.Values(name)
	switch {
	case len(values) == 0:
		return ""
	case len(values) > 1:
		in.fail(invalid(name, "duplicate_parameter", "%s is given twice.", name))
	default:
		in.checkText(name, values[0], maxBytes)
	}
	return values[0]
}

// text returns a query parameter of 1 to so many bytes, and whether it is given.
func (in *input) text(name string, maxBytes int) (string, bool) {
	in.noQuery()
	in.known = append(in.known, name)
	values := in.values[name]
	switch {
	case len(values) == 0:
		return "", false
	case len(values) > 1:
		in.fail(invalid(name, "duplicate_parameter", "%s is given twice.", name))
	default:
		in.checkText(name, values[0], maxBytes)
	}
	return values[0], true
}

// required checks a member of the body that must be there.
func (in *input) required(param, value string, maxBytes int) {
	if value == "" {
		in.fail(invalid(param, codeMissing, "Missing required parameter: '%s'.", param))
	}
	in.checkText(param, value, maxBytes)
}

// checkText refuses what is empty, longer than it may be, or no text.
func (in *input) checkText(param, value string, maxBytes int) {
	switch {
	case value == "":
		in.fail(invalid(param, codeInvalid, "%s must not be empty.", param))
	case len(value) > maxBytes:
		in.fail(invalid(param, codeInvalid, "%s must be at most %d bytes long; it has %d.", param, maxBytes, len(value)))
	case !isText(value):
		in.fail(invalid(param, codeInvalid, "%s must be text: UTF-8 without NUL.", param))
	}
}

// isText reports whether Postgres can hold it.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// maxNumberBytes is above what any number in a query is written with.
const maxNumberBytes = 20

// number returns a query parameter within bounds.
func (in *input) number(name string, missing, low, high int64) int64 {
	text, given := in.text(name, maxNumberBytes)
	if !given {
		return missing
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		in.fail(invalid(name, codeInvalid, "%s must be a whole number from %d to %d.", name, low, high))
	}
	return n
}

// oneOf returns a query parameter that is one of the values.
func (in *input) oneOf(name, missing string, values ...string) string {
	text, given := in.text(name, maxNameBytes)
	if !given {
		return missing
	}
	if !slices.Contains(values, text) {
		in.fail(invalid(name, codeInvalid, "%s must be one of %s.", name, strings.Join(values, ", ")))
	}
	return text
}

// resource is a thing that a path names.
type resource struct {
	kind string // as OpenAI's errors name it; empty: the path names nothing
	id   string
}

// name makes an ErrNotFound say what was not found.
func (r resource) name(err error) error {
	var known *apiError
	if r.kind == "" || !errors.Is(err, batch.ErrNotFound) || errors.As(err, &known) {
		return err
	}
	return notFound(r.kind, r.id)
}

// missing says that the path names nothing that can exist.
func (in *input) missing() { in.fail(notFound(in.resource.kind, in.resource.id)) }

// pathID notes what the path names, and returns the id.
func (in *input) pathID(kind string) string {
	in.resource = resource{kind: kind, id: in.PathValue("id")}
	return in.resource.id
}

// batchID returns the batch that the path names.
func (in *input) batchID() batch.ID {
	id, ok := parseBatchID(in.pathID("batch"))
	if !ok {
		in.missing()
	}
	return id
}

// parseBatchID reads an id exactly as it is shown.
func parseBatchID(text string) (batch.ID, bool) {
	id, err := batch.ParseID(text)
	return id, err == nil && id.String() == text
}

// json reads the body, a JSON object without unknown members. Only the members
// that are named may be null, as if they were missing.
func (in *input) json(into any, nullable ...string) {
	if in.err == nil {
		in.fail(decode(in.call, into, nullable))
	}
}

// optionalJSON is json, for a body that may be missing.
func (in *input) optionalJSON(into any) {
	if in.ContentLength != 0 {
		in.json(into)
	}
}

func decode(c *call, into any, nullable []string) error {
	if media, _, _ := mime.ParseMediaType(c.Header.Get("Content-Type")); media != "application/json" {
		return unsupportedMedia("application/json")
	}
	body, err := c.bodyReader(c.Body, maxJSONBytes)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(body)
	if err != nil {
		return readError(err)
	}
	_ = http.NewResponseController(c.w).SetReadDeadline(time.Time{})
	if err := checkNulls(raw, nullable); err != nil {
		return err
	}
	err = jsonv2.Unmarshal(raw, into, jsonv2.RejectUnknownMembers(true))
	var semantic *jsonv2.SemanticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &semantic) && errors.Is(err, jsonv2.ErrUnknownName):
		name := memberName(semantic.JSONPointer)
		return invalid(shorten(name), "unknown_parameter", "Unknown parameter: %s.", quote(name))
	case errors.As(err, &semantic):
		name := memberName(semantic.JSONPointer)
		return invalid(shorten(name), "invalid_type", "Invalid type for %s: got %s.", quote(name), kindName(semantic.JSONKind))
	}
	return invalid("", "invalid_json", "The body could not be parsed as JSON.")
}

// checkNulls refuses a null that is no value of one of the members, for Go
// would take it for a zero. What is wrong otherwise is for Unmarshal to say.
func checkNulls(raw []byte, nullable []string) error {
	d := jsontext.NewDecoder(bytes.NewReader(raw))
	for {
		token, err := d.ReadToken()
		if err != nil {
			return nil //nolint:nilerr // the end, or what Unmarshal finds too
		}
		if token.Kind() != jsontext.KindNull {
			continue
		}
		if name := memberName(d.StackPointer()); !slices.Contains(nullable, name) {
			return invalid(shorten(name), "invalid_type", "Invalid type for %s: got null.", quote(name))
		}
	}
}

// readError tells a client that is gone from one that sent too much, or what
// cannot be decompressed.
func readError(err error) error {
	var size *http.MaxBytesError
	if errors.As(err, &size) || errors.Is(err, errDamagedGzip) {
		return err
	}
	return errGone
}

// memberName is where a member stands, such as output_expires_after.seconds.
func memberName(p jsontext.Pointer) string {
	return strings.Join(slices.Collect(p.Tokens()), ".")
}

func kindName(k jsontext.Kind) string {
	switch k {
	case jsontext.KindNull:
		return "null"
	case jsontext.KindTrue, jsontext.KindFalse:
		return "a boolean"
	case jsontext.KindString:
		return "a string"
	case jsontext.KindNumber:
		return "a number"
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	}
	return "something else"
}
