package endpoint

import (
	"encoding/base64"
	"errors"
	"net/textproto"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// Auth says how an API key is sent: the name of a scheme, or a header with {key}
// in it, such as "X-Token: Bearer {key}". Empty: Bearer.
type Auth string

// The schemes.
const (
	Bearer  Auth = "bearer"    // Authorization: Bearer KEY
	APIKey  Auth = "api-key"   // api-key: KEY, as Azure has it
	XAPIKey Auth = "x-api-key" // x-api-key: KEY, as Anthropic has it
	Basic   Auth = "basic"     // Authorization: Basic, of a key that is user:password
	None    Auth = "none"      // no key is sent
)

const keyMark = "{key}"

// ErrAuth says which texts ParseAuth takes.
var ErrAuth = errors.New("is none of bearer, api-key, x-api-key, basic, none and a header with {key} in it, such as X-Token: Bearer {key}")

// ParseAuth takes what Auth describes, schemes in any case. It returns ErrAuth,
// or an error that says what is wrong with the header.
func ParseAuth(text string) (Auth, error) {
	text = strings.TrimSpace(text)
	switch scheme := Auth(strings.ToLower(text)); scheme {
	case "", Bearer, APIKey, XAPIKey, Basic, None:
		return scheme, nil
	}
	name, value, ok := strings.Cut(text, ":")
	if !ok {
		return "", ErrAuth
	}
	name, value = strings.TrimSpace(name), strings.TrimSpace(value)
	if err := checkName(name); err != nil {
		return "", err
	}
	switch {
	case !strings.Contains(value, keyMark):
		return "", errors.New("is a header without {key}, which stands for the API key")
	case !httpguts.ValidHeaderFieldValue(value):
		return "", errors.New("is a header with a character that no header can hold")
	case len(value) > maxValueBytes:
		return "", errTooLong
	}
	return Auth(textproto.CanonicalMIMEHeaderKey(name) + ": " + value), nil
}

// Header returns the header that carries a key; an empty name: none does.
func (a Auth) Header(key string) (name, value string) {
	switch a {
	case "", Bearer:
		return "Authorization", "Bearer " + key
	case APIKey:
		return "Api-Key", key
	case XAPIKey:
		return "X-Api-Key", key
	case Basic:
		return "Authorization", basic(key)
	case None:
		return "", ""
	}
	name, value, _ = strings.Cut(string(a), ": ")
	return name, strings.ReplaceAll(value, keyMark, key)
}

// basic is the header of RFC 7617. A key without a colon is a user without a
// password.
func basic(key string) string {
	if !strings.Contains(key, ":") {
		key += ":"
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(key))
}
