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

func TestWithModel(t *testing.T) {
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
			got, err := WithModel(given, to)
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

func TestWithModelOfBrokenBodies(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"model":"secret"`, `{"secret":1 "model":"x"}`, `{"model":secret}`, `{"model":`, `{`} {
		if got, err := WithModel([]byte(body), "m"); err == nil {
			t.Errorf("%s became %s", body, got)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("the error of %s quotes it: %v", body, err)
		}
	}
	if _, err := WithModel([]byte(`{}`), "\xff"); err == nil {
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
func TestWithModelChangesNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		drawValue(t, &b, 0)
		body := []byte(b.String())
		checkWithModel(t, body)
	})
}

type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func checkWithModel(t failer, body []byte) {
	t.Helper()
	const one, other = "\x01one-model\x01", "\x02another\x02" // escaped, in no other string
	first, err := WithModel(body, one)
	if err != nil {
		t.Fatalf("%q: %v", body, err)
	}
	second, err := WithModel(first, other)
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

func FuzzWithModel(f *testing.F) {
	f.Add([]byte(`{"model":"gpt-4","messages":[{"role":"user","content":"{\"model\":\"x\"}"}]}`))
	f.Add([]byte(` {"a" : [1, {"model": 2}] , "mod\u0065l":null, "model":[]} `))
	f.Fuzz(func(t *testing.T, body []byte) {
		if !json.Valid(body) {
			return
		}
		checkWithModel(t, body)
	})
}
