package jsonl

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"fusillade/internal/batch"
)

// FuzzReader holds the Reader against the line as encoding/json reads it.
func FuzzReader(f *testing.F) {
	for _, seed := range []string{
		"",
		request("a"),
		request("a") + "\n" + request("b") + "\r\n\n" + request("c"),
		request("a") + "\n" + request("a"),
		"\xef\xbb\xbf" + request("a"),
		`{"custom_id":"\ud83e\udd99","url":"\/v1/embeddings","body":{"input":["x",1.5e-3,null,true],"model":"m\n"}}`,
		`{"custom_id":"a","url":"/v1/completions","body":{"model":"m","model":"n"}}`,
		"{}\n[]\nnull\n\"\"\n1\n" + request("a"),
		request("a") + "\xff",
		request(`\ud800`) + "\n" + request(`\u0000`),
		strings.Repeat("[", 200) + "\n" + request("a"),
		`{"custom_id":"a","url":"/v1/responses","body":{"model":"` + strings.Repeat("m", 300) + `"}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		templates, summary, err := readAll(t, bytes.NewReader(data), Config{Limits: Limits{MaxRequestBytes: 4096}})
		lines := bytes.Split(bytes.TrimPrefix(data, byteOrderMark), []byte("\n"))
		blank := func(line []byte) bool { return len(bytes.Trim(line, " \t\r")) == 0 }

		ids := make(map[string]bool)
		previous := 0
		for _, template := range templates {
			line := int(template.Line)
			for _, skipped := range lines[previous : line-1] {
				if !blank(skipped) {
					t.Fatalf("a request before line %d was skipped", line)
				}
			}
			previous = line

			if !utf8.Valid(lines[line-1]) {
				t.Fatalf("line %d is no UTF-8", line)
			}
			var members map[string]json.RawMessage
			if err := json.Unmarshal(lines[line-1], &members); err != nil {
				t.Fatalf("line %d: %v", line, err)
			}
			if !bytes.Equal(members["body"], template.Body) {
				t.Fatalf("line %d: body is %q, want %q", line, template.Body, members["body"])
			}
			var body map[string]json.RawMessage
			if err := json.Unmarshal(template.Body, &body); err != nil {
				t.Fatalf("line %d: body: %v", line, err)
			}
			for field, pair := range map[string][2]string{
				"custom_id": {template.CustomID, unquote(t, members["custom_id"])},
				"url":       {template.Path, unquote(t, members["url"])},
				"model":     {string(template.Model), unquote(t, body["model"])},
			} {
				if got, want := pair[0], pair[1]; got != want || got == "" || strings.ContainsRune(got, 0) {
					t.Fatalf("line %d: %s is %q, want %q", line, field, got, want)
				}
			}
			if ids[template.CustomID] || len(template.CustomID) > maxCustomIDBytes || len(template.Model) > maxModelBytes || template.Method != "POST" {
				t.Fatalf("line %d breaks a rule", line)
			}
			ids[template.CustomID] = true
		}

		if err == io.EOF {
			if !slices.ContainsFunc(lines, func(line []byte) bool { return !blank(line) }) {
				t.Fatal("a file without a request is good")
			}
			for _, rest := range lines[previous:] {
				if !blank(rest) {
					t.Fatal("the last request was skipped")
				}
			}
			if summary.SHA256 != sha256.Sum256(data) || summary.Bytes != int64(len(data)) || summary.Requests != len(templates) {
				t.Fatalf("summary %+v", summary)
			}
			return
		}
		var invalid *InvalidFileError
		if !errors.As(err, &invalid) {
			t.Fatal(err)
		}
		if invalid.Total < len(invalid.Lines) || len(invalid.Lines) == 0 || len(invalid.Lines) > defaultListed {
			t.Fatalf("%d of %d bad lines are listed", len(invalid.Lines), invalid.Total)
		}
		for _, bad := range invalid.Lines {
			switch {
			case bad.Code == CodeEmptyFile:
				if bad.Line != 0 || len(templates) > 0 {
					t.Fatalf("got %+v", bad)
				}
			case bad.Line <= previous || bad.Line > len(lines) || bad.Code != CodeRequestTooLarge && blank(lines[bad.Line-1]):
				t.Fatalf("got %+v after line %d", bad, previous)
			default:
				previous = bad.Line
			}
		}
	})
}

func unquote(t *testing.T, raw json.RawMessage) string {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		t.Fatal(err)
	}
	return text
}

// FuzzOutput checks that any body makes one line that encoding/json reads back.
func FuzzOutput(f *testing.F) {
	f.Add("a", []byte(`{"x": [1, 2.50, "\u00e9\n"]}`))
	f.Add("", []byte("<html>\xff\n"))
	f.Add("\xff\u2028", []byte(`"\ud800"`))
	f.Add("a", []byte("{\"x\":\"\xff\"}"))
	f.Add("a", []byte(" null\r\n"))
	f.Fuzz(func(t *testing.T, customID string, body []byte) {
		if bytes.Count(body, []byte("["))+bytes.Count(body, []byte("{")) > 5_000 {
			t.Skip("encoding/json refuses to read 10,000 levels")
		}
		checkLine(t, result(func(r *batch.Result) { r.CustomID, r.Body = customID, body }))
	})
}
