package api

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// query reads a request's query parameters. Its error, kept until done, is
// about the first that is bad.
type query struct {
	values url.Values
	known  []string
	err    error
}

func (c *call) query() (*query, error) {
	values, err := url.ParseQuery(c.URL.RawQuery)
	if err != nil {
		return nil, invalid("", "invalid_query", "The query string could not be parsed.")
	}
	return &query{values: values}, nil
}

// text returns a parameter, or "" if it is not given.
func (q *query) text(name string) string {
	q.known = append(q.known, name)
	values := q.values[name]
	switch {
	case len(values) == 0:
		return ""
	case len(values) > 1:
		q.fail(invalid(name, "duplicate_parameter", "%s is given twice.", name))
	case !isText(values[0]):
		q.fail(invalid(name, "invalid_value", "%s is not text.", name))
	}
	return values[0]
}

// isText reports whether Postgres can hold it.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

// number returns a parameter within bounds.
func (q *query) number(name string, missing, low, high int64) int64 {
	text := q.text(name)
	if text == "" {
		return missing
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < low || n > high {
		q.fail(invalid(name, "invalid_value", "%s must be a whole number from %d to %d.", name, low, high))
	}
	return n
}

// oneOf returns a parameter that is one of the values; the first is what a
// missing one amounts to.
func (q *query) oneOf(name string, values ...string) string {
	text := q.text(name)
	if text == "" {
		return values[0]
	}
	for _, value := range values {
		if text == value {
			return text
		}
	}
	q.fail(invalid(name, "invalid_value", "%s must be one of %s.", name, strings.Join(values, ", ")))
	return values[0]
}

func (q *query) fail(err error) {
	if q.err == nil {
		q.err = err
	}
}

// done returns what is wrong, unknown parameters included.
func (q *query) done() error {
	if q.err != nil {
		return q.err
	}
	for name := range q.values {
		if !slices.Contains(q.known, name) {
			return invalid(name, "unknown_parameter", "Unknown parameter: %s.", shown(name))
		}
	}
	return nil
}
