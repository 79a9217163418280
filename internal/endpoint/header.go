package endpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/textproto"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Bounds of Headers.
const (
	maxHeaders    = 64
	maxNameBytes  = 256
	maxValueBytes = 8 << 10
)

var errTooLong = fmt.Errorf("has a header of more than %d bytes", maxValueBytes)

// Header is one that is sent with every call. Its value may be a secret.
type Header struct{ Name, Value string }

// Headers have canonical names, in their order, each once.
type Headers []Header

// reservedNames belong to the connection, or say what a call is about.
var reservedNames = []string{
	"Connection", "Content-Encoding", "Content-Length", "Content-Type", "Expect", "Host", "Idempotency-Key", "Keep-Alive", "Proxy-Authorization",
	"Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
}

const reservedPrefix = "X-Fusillade-"

func checkName(name string) error {
	canonical := textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldName(name) || len(name) > maxNameBytes:
		return errors.New("has a header whose name is none")
	case slices.Contains(reservedNames, canonical), strings.HasPrefix(canonical, reservedPrefix):
		return fmt.Errorf("has the header %s, which every call sets itself", canonical)
	}
	return nil
}

// Set adds a header, in place of one of that name. An empty value removes it.
// An error names the header and holds nothing of the value.
func (h *Headers) Set(name, value string) error {
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if err := checkName(name); err != nil {
		return err
	}
	name = textproto.CanonicalMIMEHeaderKey(name)
	switch {
	case !httpguts.ValidHeaderFieldValue(value):
		return fmt.Errorf("has the header %s with a character that no header can hold", name)
	case len(value) > maxValueBytes:
		return errTooLong
	}
	set := slices.Clone(*h)
	at, found := slices.BinarySearchFunc(set, name, func(h Header, name string) int { return strings.Compare(h.Name, name) })
	switch {
	case found && value == "":
		set = slices.Delete(set, at, at+1)
	case found:
		set[at].Value = value
	case value == "":
	case len(set) == maxHeaders:
		return fmt.Errorf("has more than %d headers", maxHeaders)
	default:
		set = slices.Insert(set, at, Header{name, value})
	}
	*h = set
	return nil
}

// ParseHeaders reads a JSON object, or name=value,… (also name: value, and one a
// line), in which a value has no comma. Each name may be given once.
func ParseHeaders(text string) (Headers, error) {
	var headers Headers
	add := func(name, value string) error {
		before := len(headers)
		if err := headers.Set(name, value); err != nil {
			return err
		}
		if len(headers) == before {
			return fmt.Errorf("has the header %s without a value, or twice", textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)))
		}
		return nil
	}
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		var object map[string]string
		if err := json.Unmarshal([]byte(text), &object); err != nil {
			return nil, errors.New("is not a JSON object whose values are strings")
		}
		for name, value := range object {
			if err := add(name, value); err != nil {
				return nil, err
			}
		}
		return headers, nil
	}
	number := 0
	for element := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == '\n' }) {
		if element = strings.TrimSpace(element); element == "" {
			continue
		}
		number++
		at := strings.IndexAny(element, "=:")
		if at < 0 {
			return nil, fmt.Errorf("has an element without a value, number %d (a value with commas: as JSON)", number)
		}
		if err := add(element[:at], element[at+1:]); err != nil {
			return nil, err
		}
	}
	return headers, nil
}

// Names are the headers' names.
func (h Headers) Names() []string {
	names := make([]string, len(h))
	for i := range h {
		names[i] = h[i].Name
	}
	return names
}

// JSON is what ParseHeaders reads: with the secrets.
func (h Headers) JSON() string {
	object := make(map[string]string, len(h))
	for i := range h {
		object[h[i].Name] = h[i].Value
	}
	text, err := json.Marshal(object)
	if err != nil {
		panic(err) // strings always encode
	}
	return string(text)
}
