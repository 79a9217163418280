package api

import (
	"errors"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"fusillade/internal/batch"
)

// An id that is taken is one that we print, and prints as itself.
func FuzzFileIDs(f *testing.F) {
	const digits = "0123456789abcdef0123456789abcdef"
	for _, seed := range []string{"", "file-", "file-" + digits, "file-output-" + digits, "file-error-" + digits,
		"file-output-" + strings.ToUpper(digits), "file-" + digits + "0", "batch_" + digits, "file-\x00", digits} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		ref, ok := parseFile(text)
		if !ok {
			return
		}
		printed := ref.input.String()
		if ref.result != nil {
			printed = ref.result.String()
			if again, err := batch.ParseResultFile(printed); err != nil || again != *ref.result {
				t.Errorf("%q: %v, %v", printed, again, err)
			}
		}
		if printed != text {
			t.Errorf("%q is taken for %q", text, printed)
		}
	})
}

// A query is refused with a 400, or its values are within their bounds.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "limit=5&order=asc&after=x", "limit=-1", "limit=1&limit=2", "order=%00", "%zz", "a=b", "limit=+1", "limit=٣"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		in := newInput(&call{Request: &http.Request{URL: &url.URL{RawQuery: raw}}})
		limit, order := in.number("limit", 7, 1, 100), in.oneOf("order", "desc", "asc", "desc")
		after, _ := in.text("after", 10)
		err := in.done()
		if err == nil {
			if limit < 1 || limit > 100 || order != "asc" && order != "desc" || strings.Contains(after, "\x00") || len(after) > 10 {
				t.Errorf("%q: %d %q %q", raw, limit, order, after)
			}
			return
		}
		var told *apiError
		if !errors.As(err, &told) || told.status != http.StatusBadRequest {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

// A form is refused with a 400, or is one that a strict reader reads the same.
func FuzzForm(f *testing.F) {
	const b = "xyz"
	part := func(disposition, value string) string {
		return "--" + b + "\r\nContent-Disposition: form-data; " + disposition + "\r\n\r\n" + value + "\r\n"
	}
	purpose, file := part(`name="purpose"`, "batch"), part(`name="file"; filename="a.jsonl"`, "{}\n")
	for _, seed := range []string{
		"", "--" + b + "--", purpose + file + "--" + b + "--\r\n", file + purpose + "--" + b + "--", purpose + file,
		purpose + purpose + file + "--" + b + "--", purpose + part(`name="expires_after[seconds]"`, "3600") + file + "--" + b + "--",
		part(`name="file"`, "--"+b) + "--" + b + "--", part(`name="purpose"; filename="../x"`, "batch") + "--" + b + "--",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, body string) {
		u := &upload{body: &formReader{r: strings.NewReader(body)}, fields: make(map[string]string)}
		u.parts = multipart.NewReader(u.body, b)
		var content []byte
		file, err := u.readFields()
		if err == nil && file != nil {
			if content, err = io.ReadAll(u.content(file)); err == nil {
				_, err = u.readFields()
			}
		}
		if err = u.explain(err); err != nil {
			var told *apiError
			if !errors.As(err, &told) || told.status != http.StatusBadRequest {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		form, err := multipart.NewReader(strings.NewReader(body), b).ReadForm(1 << 20)
		if err != nil {
			t.Fatalf("%q is taken, but is no form: %v", body, err)
		}
		defer form.RemoveAll() //nolint:errcheck // in memory
		if u.fields["purpose"] != "batch" || u.seenFile != (file != nil) {
			t.Errorf("%q: %+v", body, u.fields)
		}
		if files := form.File["file"]; len(files) == 1 {
			opened, err := files[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			if want, _ := io.ReadAll(opened); string(want) != string(content) {
				t.Errorf("%q: file %q, want %q", body, content, want)
			}
		}
	})
}
