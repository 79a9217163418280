package jsonl

import (
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestReaderRefuses(t *testing.T) {
	t.Parallel()
	const url = `"url":"/v1/chat/completions"`
	for name, test := range map[string]struct {
		line  string // the third of the file
		cfg   Config
		field string
		code  string
		text  string // within the message
	}{
		"no JSON":                       {line: `custom_id: a`, code: CodeInvalidJSON, text: "byte 1"},
		"cut off":                       {line: `{"custom_id":"a"`, code: CodeInvalidJSON},
		"cut off in body":               {line: `{"body":{"model":`, code: CodeInvalidJSON},
		"bad literal in body":           {line: `{"body":{"model":tru}}`, code: CodeInvalidJSON},
		"leading zero":                  {line: `{"custom_id":01}`, code: CodeInvalidJSON},
		"raw control character":         {line: "{\"custom_id\":\"\x01\"}", code: CodeInvalidJSON},
		"name is no string":             {line: `{1:2}`, code: CodeInvalidJSON},
		"trailing comma":                {line: `{"custom_id":"a",}`, code: CodeInvalidJSON},
		"trailing garbage":              {line: request("a") + ` x`, code: CodeInvalidJSON, text: "more follows"},
		"two objects":                   {line: request("a") + request("b"), code: CodeInvalidJSON, text: "more follows"},
		"separated by CR only":          {line: request("a") + "\r" + request("b"), code: CodeInvalidJSON, text: "carriage returns alone"},
		"too deep":                      {line: `{"body":` + strings.Repeat("[", 20_000), code: CodeInvalidJSON},
		"lone surrogate":                {line: `{"custom_id":"\ud800"}`, code: CodeInvalidJSON},
		"bad UTF-8":                     {line: "{\"custom_id\":\"é\xff\"}", code: CodeInvalidUTF8, text: "byte 17"},
		"UTF-16":                        {line: "\xff\xfe{\x00", code: CodeInvalidUTF8, text: "byte 1"},
		"late byte order mark":          {line: "\xef\xbb\xbf" + request("a"), code: CodeInvalidJSON},
		"array":                         {line: `[1]`, code: CodeWrongType, text: "must be a JSON object"},
		"null":                          {line: `null`, code: CodeWrongType},
		"custom_id twice":               {line: `{"custom_id":"a","custom_id":"b"}`, field: "custom_id", code: CodeDuplicateField},
		"custom_id twice, once escaped": {line: `{"custom_id":"a","custom\u005fid":"b"}`, field: "custom_id", code: CodeDuplicateField},
		"other name twice":              {line: `{"x":1,"x":1}`, code: CodeDuplicateField},
		"body twice":                    {line: `{"body":{},"body":{}}`, field: "body", code: CodeDuplicateField},
		"model twice":                   {line: `{"body":{"model":"m","model":"n"}}`, field: "body.model", code: CodeDuplicateField},
		"name twice in body":            {line: `{"body":{"a":[{"b":1,"b":2}]}}`, field: "body", code: CodeDuplicateField},
		"no custom_id":                  {line: `{"method":"POST",` + url + `,"body":{"model":"m"}}`, field: "custom_id", code: CodeMissingField},
		"other case":                    {line: `{"Custom_ID":"a",` + url + `,"body":{"model":"m"}}`, field: "custom_id", code: CodeMissingField},
		"empty custom_id":               {line: request(""), field: "custom_id", code: CodeEmptyField},
		"custom_id is a number":         {line: `{"custom_id":1}`, field: "custom_id", code: CodeWrongType, text: "must be a string"},
		"custom_id is null":             {line: `{"custom_id":null}`, field: "custom_id", code: CodeWrongType},
		"long custom_id":                {line: request(strings.Repeat("é", 256) + "x"), field: "custom_id", code: CodeInvalidField, text: "512"},
		"NUL in custom_id":              {line: request(`a\u0000`), field: "custom_id", code: CodeInvalidField},
		"custom_id of line 1":           {line: request("first"), field: "custom_id", code: CodeDuplicateCustomID, text: `"first" is already that of line 1`},
		"the same, escaped":             {line: request(`\u0066irst`), field: "custom_id", code: CodeDuplicateCustomID, text: `line 1`},
		"method is a number":            {line: `{"custom_id":"a","method":1}`, field: "method", code: CodeWrongType},
		"GET":                           {line: `{"custom_id":"a","method":"GET"}`, field: "method", code: CodeInvalidMethod},
		"empty method":                  {line: `{"custom_id":"a","method":""}`, field: "method", code: CodeInvalidMethod},
		"no url":                        {line: `{"custom_id":"a"}`, field: "url", code: CodeMissingField},
		"empty url":                     {line: `{"custom_id":"a","url":""}`, field: "url", code: CodeEmptyField},
		"url is an object":              {line: `{"custom_id":"a","url":{}}`, field: "url", code: CodeWrongType},
		"unknown url":                   {line: `{"custom_id":"a","url":"/v1/chat/completions/"}`, field: "url", code: CodeUnknownURL, text: "/v1/responses"},
		"url of another batch":          {line: `{"custom_id":"a","url":"/v1/embeddings"}`, cfg: Config{Endpoint: "/v1/chat/completions"}, field: "url", code: CodeURLMismatch},
		"url of another line":           {line: `{"custom_id":"a","url":"/v1/embeddings"}`, field: "url", code: CodeMixedURLs, text: "line 1 is /v1/chat/completions"},
		"no body":                       {line: `{"custom_id":"a",` + url + `}`, field: "body", code: CodeMissingField},
		"body is a string":              {line: `{"custom_id":"a",` + url + `,"body":"{}"}`, field: "body", code: CodeWrongType, text: "must be an object"},
		"no model":                      {line: `{"custom_id":"a",` + url + `,"body":{"x":{"model":"m"}}}`, field: "body.model", code: CodeMissingModel},
		"empty model":                   {line: `{"custom_id":"a",` + url + `,"body":{"model":""}}`, field: "body.model", code: CodeMissingModel},
		"model is an array":             {line: `{"custom_id":"a",` + url + `,"body":{"model":["m"]}}`, field: "body.model", code: CodeWrongType},
		"long model":                    {line: `{"custom_id":"a",` + url + `,"body":{"model":"` + strings.Repeat("m", 257) + `"}}`, field: "body.model", code: CodeInvalidField, text: "256"},
		"NUL in model":                  {line: `{"custom_id":"a",` + url + `,"body":{"model":"m\u0000"}}`, field: "body.model", code: CodeInvalidField},
		"one model too many":            {line: `{"custom_id":"a",` + url + `,"body":{"model":"n"}}`, cfg: Config{Limits: Limits{MaxModels: 1}}, field: "body.model", code: CodeTooManyModels},
		"one byte too many":             {line: strings.Repeat(" ", 101), cfg: Config{Limits: Limits{MaxRequestBytes: 100}}, code: CodeRequestTooLarge, text: "100 bytes"},
		"one request too many":          {line: request("a"), cfg: Config{Limits: Limits{MaxRequests: 1}}, code: CodeTooManyRequests, text: "more than 1 requests"},
		"one byte past the file":        {line: request("a"), cfg: Config{Limits: Limits{MaxFileBytes: int64(2*len(request("first"))) - 3}}, code: CodeFileTooLarge, text: "larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			templates, _, err := readAll(t, strings.NewReader(request("first")+"\n\n"+test.line+"\n"), test.cfg)
			var invalid *InvalidFileError
			if !errors.As(err, &invalid) {
				t.Fatalf("got %v", err)
			}
			if len(templates) != 1 || invalid.Total != 1 || len(invalid.Lines) != 1 {
				t.Fatalf("%d requests, error %+v", len(templates), invalid)
			}
			got := invalid.Lines[0]
			if got.Line != 3 || got.Field != test.field || got.Code != test.code {
				t.Errorf("got %+v", got)
			}
			if prefix := strings.TrimSpace("line 3: " + test.field); !strings.HasPrefix(got.Message, prefix) || !strings.Contains(got.Message, test.text) {
				t.Errorf("message is %q", got.Message)
			}
			if err.Error() != "invalid input file: "+got.Message || got.Error() != got.Message {
				t.Errorf("error is %q", err)
			}
		})
	}
}

func TestReaderRefusesAnEmptyFile(t *testing.T) {
	t.Parallel()
	for _, input := range []string{"", "\n", "\xef\xbb\xbf", " \r\n\t\n"} {
		_, _, err := readAll(t, strings.NewReader(input), Config{})
		want := &InvalidFileError{Lines: []LineError{{Code: CodeEmptyFile, Message: "the file has no request"}}, Total: 1}
		if diff := cmp.Diff(error(want), err); diff != "" {
			t.Errorf("%q: %s", input, diff)
		}
	}
}

func TestReaderListsBadLinesUpToALimit(t *testing.T) {
	t.Parallel()
	var input strings.Builder
	for i := range 150 {
		fmt.Fprintf(&input, "%s\n{}\n", request(fmt.Sprint(i)))
	}
	templates, _, err := readAll(t, strings.NewReader(input.String()), Config{})
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Total != 150 || len(invalid.Lines) != 100 || len(templates) != 1 {
		t.Fatalf("%d requests, error %v", len(templates), err)
	}
	for i, line := range invalid.Lines {
		if line.Line != 2*(i+1) {
			t.Errorf("element %d is line %d", i, line.Line)
		}
	}
	if !strings.HasSuffix(err.Error(), "(bad lines: 150)") {
		t.Errorf("error is %q", err)
	}

	_, _, err = readAll(t, strings.NewReader(input.String()), Config{Limits: Limits{MaxRequests: 250}})
	if !errors.As(err, &invalid) || invalid.Total != 126 || len(invalid.Lines) != 100 {
		t.Fatalf("error %v", err)
	}
	if last := invalid.Lines[99]; last.Line != 251 || last.Code != CodeTooManyRequests {
		t.Errorf("last element is %+v", last)
	}
}

func TestReaderGoesOnAfterALongLine(t *testing.T) {
	t.Parallel()
	input := request("a") + "\n" + strings.Repeat("x", 3*chunkBytes) + "\r\n" + request("a") + "\n" + strings.Repeat("y", chunkBytes)
	_, _, err := readAll(t, strings.NewReader(input), Config{Limits: Limits{MaxRequestBytes: 1000}})
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) {
		t.Fatal(err)
	}
	want := []string{"2 request_too_large", "3 duplicate_custom_id", "4 request_too_large"}
	var got []string
	for _, line := range invalid.Lines {
		got = append(got, fmt.Sprint(line.Line, " ", line.Code))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReaderCountsALongLineAsARequest(t *testing.T) {
	t.Parallel()
	input := request("a") + "\n" + request("too long")
	_, _, err := readAll(t, strings.NewReader(input), Config{Limits: Limits{MaxRequests: 1, MaxRequestBytes: len(request("a"))}})
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Total != 1 || invalid.Lines[0].Line != 2 || invalid.Lines[0].Code != CodeTooManyRequests {
		t.Errorf("got %v", err)
	}
}

// countingReader counts the bytes that were read.
type countingReader struct {
	io.Reader
	read int64
}

func (r *countingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.read += int64(n)
	return n, err
}

func TestReaderStopsAtTheFileLimit(t *testing.T) {
	t.Parallel()
	const limit = 1000
	source := &countingReader{Reader: strings.NewReader(strings.Repeat("\n", 5*chunkBytes))}
	_, _, err := readAll(t, source, Config{Limits: Limits{MaxFileBytes: limit}})
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Lines[0].Code != CodeFileTooLarge || invalid.Lines[0].Line != limit+1 {
		t.Errorf("got %v", err)
	}
	if source.read != limit+1 {
		t.Errorf("%d bytes were read", source.read)
	}
}

func TestReaderRefusesLineNumbersBeyond32Bits(t *testing.T) {
	t.Parallel()
	reader, err := NewReader(strings.NewReader(request("a")+"\n"+request("b")), Config{})
	if err != nil {
		t.Fatal(err)
	}
	reader.lines.number = math.MaxInt32 - 1
	if template, err := reader.Next(); err != nil || template.Line != math.MaxInt32 {
		t.Fatalf("got line %d, %v", template.Line, err)
	}
	_, err = reader.Next()
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Lines[0].Code != CodeFileTooLarge || invalid.Lines[0].Line != math.MaxInt32+1 {
		t.Errorf("got %v", err)
	}
}

func TestMessagesQuoteAShortenedCustomIDOnly(t *testing.T) {
	t.Parallel()
	id := strings.Repeat("x", 500)
	_, _, err := readAll(t, strings.NewReader(request(id)+"\n"+request(id)), Config{})
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || len(invalid.Lines[0].Message) > 150 || !strings.Contains(invalid.Lines[0].Message, "…") {
		t.Errorf("got %v", err)
	}

	const secret = "sekrit"
	for _, line := range []string{
		`{"custom_id":"a","method":"sekrit"}`,
		`{"custom_id":"a","url":"sekrit"}`,
		`{"custom_id":"a","url":"/v1/chat/completions","body":"sekrit"}`,
		`{"custom_id":"a","url":"/v1/chat/completions","body":{"model":["sekrit"]}}`,
		`{"custom_id":"a","body":{"sekrit":1,"sekrit":2}}`,
		`{"sekrit":1,"sekrit":2}`,
		`{"body":{"prompt":"sekrit`,
		`{"body":{"prompt":"sekrit\x"}}`,
		`sekrit`,
		request("a") + "sekrit",
	} {
		_, _, err := readAll(t, strings.NewReader(line), Config{})
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", line, err)
		}
	}
}
