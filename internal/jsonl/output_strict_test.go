package jsonl

import (
	"bytes"
	"strings"
	"testing"

	"github.com/go-json-experiment/json/jsontext"

	"fusillade/internal/batch"
)

// Whatever an endpoint or a client wrote, an output line is one line for every
// reader, and JSON for strict ones.
func TestLinesAreStrict(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"{\"a\":\"x\u2028y\u2029z\u0085\"}":       `{"a":"x\u2028y\u2029z\u0085"}`,
		"{\"\u2028\":1}":                          `{"\u2028":1}`,
		`{"a":"\ud800"}`:                          `{"a":"\ufffd"}`,
		`{"a":"\udc00\ud83d\ude00 \ud83d"}`:       `{"a":"\ufffd\ud83d\ude00 \ufffd"}`,
		`{"a":"\\ud800 \ud800\ud800\udc00 \ud8"}`: ``, // no JSON: a string
		`{"a":"\\ud800 \ud800\ud800\udc00"}`:      `{"a":"\\ud800 \ufffd\ud800\udc00"}`,
		"{\"a\":\"\xff\"}":                        "{\"a\":\"\ufffd\"}",
		`{"a":[NaN]}`:                             `"{\"a\":[NaN]}"`,
		`{"a":-Infinity}`:                         `"{\"a\":-Infinity}"`,
		`{"a":[1e400]}`:                           `"{\"a\":[1e400]}"`,
		`{"a":-1E+309,"b":"\ud800"}`:              `"{\"a\":-1E+309,\"b\":\"\\ud800\"}"`,
		`{"a":[1e308,-1e-400,0.1e2],"b":"1e400"}`: `{"a":[1e308,-1e-400,0.1e2],"b":"1e400"}`,
		`{"a":` + digits(4301) + `}`:              `"{\"a\":` + digits(4301) + `}"`,
		`{"a":` + digits(308) + `}`:               `{"a":` + digits(308) + `}`,
		nested(200):                               nested(200),
		nested(201):                               `"` + nested(201) + `"`,
		nested(10_001):                            `"` + nested(10_001) + `"`,
		`"` + nested(300) + `\"[[["`:              `"` + nested(300) + `\"[[["`,
		"<html>\u2028":                            `"<html>\u2028"`,
	} {
		for _, state := range []batch.State{batch.Completed, batch.Failed} {
			r := result(func(r *batch.Result) {
				r.State, r.Body, r.CustomID = state, []byte(body), "c\u2028"
			})
			line := AppendOutputLine([]byte("before\u2028"), r)
			if state == batch.Failed {
				line = AppendErrorLine([]byte("before\u2028"), r)
			}
			line, found := bytes.CutPrefix(line, []byte("before\u2028"))
			if !found || !jsontext.Value(line).IsValid() {
				t.Errorf("%s: the line is not strict JSON: %q", body, line)
			}
			if strings.ContainsAny(string(line[:len(line)-1]), "\n\r\u0085\u2028\u2029") {
				t.Errorf("%s: the line has ends within: %q", body, line)
			}
			if want != "" && !strings.Contains(string(line), `"body":`+want) {
				t.Errorf("%s: the line is %s, want the body %s", body, line, want)
			}
		}
	}
}

func digits(n int) string { return strings.Repeat("9", n) }

func nested(levels int) string { return strings.Repeat("[", levels) + strings.Repeat("]", levels) }
