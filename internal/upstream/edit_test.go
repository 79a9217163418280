package upstream

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

// withModel is the body as it is sent with another model.
func withModel(body []byte, model batch.Model) ([]byte, error) {
	request := Request{Path: "/v1/embeddings", Model: string(model), Rename: true, Body: body}
	return request.sent()
}

// sent is the request's body as it is sent, asking for the usage where it may.
func (r *Request) sent() ([]byte, error) {
	c, err := r.changes()
	if err != nil {
		return nil, err
	}
	edited, err := editBody(r.Path, r.Body, c)
	return edited.splice(true), err
}

func TestRename(t *testing.T) {
	t.Parallel()
	const to batch.Model = "o1/preview:\"b\" <é>"
	const quoted = `"o1/preview:\"b\" <é>"`
	for name, tt := range map[string]struct{ body, want string }{
		"alone":                   {`{"model":"gpt-4"}`, `{"model":` + quoted + `}`},
		"blanks and order":        {" {\n\t\"z\" : 1 , \"model\"\t:  \"gpt-4\"  , \"a\":2}\n", " {\n\t\"z\" : 1 , \"model\"\t:  " + quoted + "  , \"a\":2}\n"},
		"given twice":             {`{"model":"a","x":1,"model":"b"}`, `{"model":` + quoted + `,"x":1,"model":` + quoted + `}`},
		"name with an escape":     {`{"mod\u0065l":"a"}`, `{"mod\u0065l":` + quoted + `}`},
		"value with an escape":    {`{"model":"a\"}b\\","x":"}"}`, `{"model":` + quoted + `,"x":"}"}`},
		"other spellings":         {`{"Model":"a","model ":"b","_model":"c"}`, `{"Model":"a","model ":"b","_model":"c"}`},
		"deeper down":             {`{"a":{"model":"x"},"b":[{"model":"y"}],"model":"z"}`, `{"a":{"model":"x"},"b":[{"model":"y"}],"model":` + quoted + `}`},
		"not a string":            {`{"model":{"model":1}}`, `{"model":` + quoted + `}`},
		"numbers as written":      {`{"n":1e400,"m":-0.0,"model":"a","k":12345678901234567890}`, `{"n":1e400,"m":-0.0,"model":` + quoted + `,"k":12345678901234567890}`},
		"others given twice":      {`{"a":1,"a":2,"model":"x"}`, `{"a":1,"a":2,"model":` + quoted + `}`},
		"bytes that are no UTF-8": {"{\"a\":\"\xff\",\"model\":\"x\"}", "{\"a\":\"\xff\",\"model\":" + quoted + "}"},
		"no model":                {`{"x":1}`, `{"x":1}`},
		"empty":                   {``, ``},
		"a list":                  {`[{"model":"x"}]`, `[{"model":"x"}]`},
		"a string":                {`"model"`, `"model"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			given := []byte(tt.body)
			got, err := withModel(given, to)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Errorf("body (-want +got):\n%s", diff)
			}
			if string(given) != tt.body {
				t.Errorf("the body that was given is now %s", given)
			}
		})
	}
}

func TestRenameInBrokenBodies(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"model":"secret"`, `{"secret":1 "model":"x"}`, `{"model":secret}`, `{"model":`, `{`} {
		if got, err := withModel([]byte(body), "m"); err == nil {
			t.Errorf("%s became %s", body, got)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error of %s quotes it: %v", body, err)
		}
	}
	if _, err := withModel([]byte(`{}`), "\xff"); err == nil {
		t.Error("a model that is not UTF-8 was taken")
	}
}

// drawValue writes any JSON, with blanks wherever they may stand.
func drawValue(t *rapid.T, out *strings.Builder, depth int) {
	blank := func() { out.WriteString(rapid.SampledFrom([]string{"", "", " ", "\n\t", "\r  "}).Draw(t, "blank")) }
	text := func() {
		raw, err := json.Marshal(rapid.OneOf(rapid.String(), rapid.Just("model")).Draw(t, "text"))
		if err != nil {
			t.Fatal(err)
		}
		out.Write(raw)
	}
	blank()
	defer blank()
	kind := rapid.IntRange(0, 5).Draw(t, "kind")
	if depth == 0 {
		kind = 5 // an object, whose names may be given twice
	} else if depth > 3 {
		kind %= 4
	}
	switch kind {
	case 0:
		out.WriteString(rapid.SampledFrom([]string{"null", "true", "false"}).Draw(t, "word"))
	case 1:
		out.WriteString(rapid.SampledFrom([]string{"0", "-1.50", "1E+9", "123456789012345678901234567890"}).Draw(t, "number"))
	case 2, 3:
		text()
	case 4:
		out.WriteByte('[')
		for i := range rapid.IntRange(0, 3).Draw(t, "items") {
			if i > 0 {
				out.WriteByte(',')
			}
			drawValue(t, out, depth+1)
		}
		out.WriteByte(']')
	case 5:
		out.WriteByte('{')
		for i := range rapid.IntRange(0, 4).Draw(t, "members") {
			if i > 0 {
				out.WriteByte(',')
			}
			blank()
			text()
			blank()
			out.WriteByte(':')
			drawValue(t, out, depth+1)
		}
		blank()
		out.WriteByte('}')
	}
}

// Going there and back changes the model alone: what one model gave becomes
// the other's by its name's bytes, and all that a decoder sees beside it stays.
func TestRenameChangesNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		drawValue(t, &b, 0)
		body := []byte(b.String())
		checkRename(t, body)
	})
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkRename(t failer, body []byte) {
	t.Helper()
	const one, other = "\x01one-model\x01", "\x02another\x02" // escaped, in no other string
	first, err := withModel(body, one)
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	second, err := withModel(first, other)
	if err != nil {
		t.Fatalf("%q: %v", first, err)
	}
	marshal := func(s string) []byte { raw, _ := json.Marshal(s); return raw }
	if want := bytes.ReplaceAll(first, marshal(one), marshal(other)); !bytes.Equal(second, want) && !bytes.Contains(body, []byte("one-model")) {
		t.Fatalf("%q became %q, want %q", first, second, want)
	}
	var before, after map[string]any
	if json.Unmarshal(body, &before) != nil {
		return // such as a number out of range
	}
	if err := json.Unmarshal(first, &after); err != nil {
		t.Fatalf("%q: %v", first, err)
	}
	if _, had := before["model"]; had {
		before["model"] = one
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Fatalf("%q became %q (-want +got):\n%s", body, first, diff)
	}
}

func FuzzRename(f *testing.F) {
	f.Add([]byte(`{"model":"gpt-4","messages":[{"role":"user","content":"{\"model\":\"x\"}"}]}`))
	f.Add([]byte(` {"a" : [1, {"model": 2}] , "mod\u0065l":null, "model":[]} `))
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			return
		}
		checkRename(t, body)
	})
}

// All edits are made at once; a member that is set is set wherever it is given, and
// where none is, those that are added come in one order.
func TestEditsTogether(t *testing.T) {
	t.Parallel()
	const chat, responses, embeddings = "/v1/chat/completions", "/v1/responses", "/v1/embeddings"
	for _, test := range []struct{ path, body, want, withoutUsage string }{
		{
			chat, `{"model":"a","messages":[]}`,
			`{"stream":true,"stream_options":{"include_usage":true},"priority":7,"model":"b","messages":[]}`,
			`{"stream":true,"priority":7,"model":"b","messages":[]}`,
		},
		{
			chat, ` { } `,
			` {"stream":true,"stream_options":{"include_usage":true},"priority":7 } `,
			` {"stream":true,"priority":7 } `,
		},
		{
			chat, `{"priority":1,"model":"a","stream_options":{"x":[{"include_usage":2}]},"stream":false,"model":"c", "priority" : {} }`,
			`{"priority":7,"model":"b","stream_options":{"include_usage":true,"x":[{"include_usage":2}]},"stream":true,"model":"b", "priority" : 7 }`,
			`{"priority":7,"model":"b","stream_options":{"x":[{"include_usage":2}]},"stream":true,"model":"b", "priority" : 7 }`,
		},
		{
			chat, `{"stream_options":null,"stream_options":{"include_usage":false,"include_usage":0}}`,
			`{"stream":true,"priority":7,"stream_options":{"include_usage":true},"stream_options":{"include_usage":true,"include_usage":true}}`,
			`{"stream":true,"priority":7,"stream_options":null,"stream_options":{"include_usage":false,"include_usage":0}}`,
		},
		{responses, `{"model":"a"}`, `{"stream":true,"priority":7,"model":"b"}`, `{"stream":true,"priority":7,"model":"b"}`},
		{embeddings, `{"model":"a","stream":0}`, `{"priority":7,"model":"b","stream":0}`, `{"priority":7,"model":"b","stream":0}`},
		{chat, `[1]`, `[1]`, `[1]`},
	} {
		edited, err := editBody(test.path, []byte(test.body), changes{model: `"b"`, priority: "7", stream: true})
		if err != nil {
			t.Fatal(err)
		}
		if got := string(edited.splice(edited.ask.usage)); got != test.want {
			t.Errorf("%s became\n%s, want\n%s", test.body, got, test.want)
		}
		if got := string(edited.splice(false)); got != test.withoutUsage {
			t.Errorf("%s became, without its usage,\n%s, want\n%s", test.body, got, test.withoutUsage)
		}
	}
}

// What is broken at its top level is sent as it is, unless it would then be called
// with another model.
func TestBrokenBodyIsNotEdited(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"a":1,`, `{"a":1 "b":2}`, `{"a":1}}`, `{,"a":1}`, `{"a":tru}`, `{"a"}`, `{a:1}`, `{`} {
		edited, err := editBody("/v1/chat/completions", []byte(body), changes{priority: "7", stream: true})
		if got := string(edited.splice(true)); err != nil || got != body || edited.ask.kind != 0 {
			t.Errorf("%s became %s, and asks %+v: %v", body, got, edited.ask, err)
		}
	}
}

func BenchmarkEditBody(b *testing.B) {
	prompt := `","messages":[{"role":"user","content":"` + strings.Repeat("word ", 2000) + `"}],"max_tokens":100,"temperature":0}`
	body := []byte(`{"model":"a` + prompt)
	for _, bench := range []struct {
		name string
		changes
	}{
		{"Nothing", changes{}},
		{"Model", changes{model: `"b"`}},
		{"Priority", changes{priority: "1767225600"}},
		{"Stream", changes{stream: true}},
		{"All", changes{`"b"`, "1767225600", true}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(body)))
			for b.Loop() {
				edited, err := editBody("/v1/chat/completions", body, bench.changes)
				if err != nil || len(edited.splice(edited.ask.usage)) == 0 {
					b.Fatal(err)
				}
			}
		})
	}
}
