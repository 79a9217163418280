package endpoint

import (
	"errors"
	"net/url"
	"strings"
)

// Path is a template of a call's path, which follows the endpoint's base URL as
// it is. In it {model} stands for the model's name upstream, and {operation} for
// the path of the request without /v1/, such as chat/completions. Empty: the
// path of the request.
type Path string

const (
	modelMark     = "{model}"
	operationMark = "{operation}"
	maxPathBytes  = 1024
)

var errModelPath = errors.New("the model's name cannot stand in a path")

// ParsePath takes a template.
func ParsePath(text string) (Path, error) {
	rest := strings.NewReplacer(modelMark, "", operationMark, "").Replace(text)
	switch {
	case text == "":
		return "", nil
	case text[0] != '/':
		return "", errors.New("is a path that does not begin with a slash")
	case len(text) > maxPathBytes:
		return "", errors.New("is a path that is too long")
	case strings.ContainsAny(rest, "{}"):
		return "", errors.New("is a path with braces that are neither {model} nor {operation}")
	case strings.ContainsAny(rest, "?#"):
		return "", errors.New("is a path with ? or #; a query belongs to the endpoint's URL")
	}
	for i := range len(rest) {
		if rest[i] <= ' ' || rest[i] > '~' {
			return "", errors.New("is a path with a blank or a character that is not percent-encoded")
		}
	}
	return Path(text), nil
}

// Expand makes the path of a call from the request's own and the model's name.
// It refuses a name that would lead elsewhere, such as one with ../ in it.
func (p Path) Expand(requested, model string) (string, error) {
	path := string(p)
	if strings.Contains(path, modelMark) {
		segments := strings.Split(model, "/")
		for i, s := range segments {
			if s == "" || s == "." || s == ".." {
				return "", errModelPath
			}
			segments[i] = url.PathEscape(s)
		}
		path = strings.ReplaceAll(path, modelMark, strings.Join(segments, "/"))
	}
	return strings.ReplaceAll(path, operationMark, operation(requested)), nil
}

// operation is a path without its version and the slash before.
func operation(path string) string {
	path = strings.TrimPrefix(path, "/")
	for _, version := range []string{"v1/", "v2/"} {
		if rest, ok := strings.CutPrefix(path, version); ok {
			return rest
		}
	}
	return path
}
