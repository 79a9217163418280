package jsonl

import (
	"errors"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, name string
		want          bool
	}{
		{"m", "m", true}, {"m", "n", false}, {"m", "mm", false}, {"mm", "m", false}, {"*", "", true}, {"*", "org/m", true},
		{"gpt-*", "gpt-4o", true}, {"gpt-*", "xgpt-4o", false}, {"org/*", "org/a/b", true}, {"*-mini", "gpt-4o-mini", true},
		{"*-mini", "gpt-mini-4o", false}, {"a*b*c", "a-b-b-c", true}, {"a*b*c", "a-c-b", false}, {"m?", "m1", true}, {"m?", "m", false},
		{"m?", "mé", true}, {"?", "é", true}, {"**", "x", true}, {"é*", "ecole", false}, {"é*", "éa", true},
		{strings.Repeat("a*", 50) + "b", strings.Repeat("a", 256), false},
	} {
		if got := matches(tt.pattern, tt.name); got != tt.want {
			t.Errorf("%q and %q: %t", tt.pattern, tt.name, got)
		}
	}
}

// Lines with a model that is not allowed are named, each of them.
func TestReaderRefusesModels(t *testing.T) {
	t.Parallel()
	line := func(id, model string) string {
		return `{"custom_id":"` + id + `","method":"POST","url":"/v1/chat/completions","body":{"model":"` + model + `"}}` + "\n"
	}
	r, err := NewReader(strings.NewReader(line("a", "gpt-4o")+line("b", "other")+line("c", "gpt-4o")+line("d", "other")), Config{Models: []string{"gpt-*", "org/*"}})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = r.Next()
	}
	var invalid *InvalidFileError
	if !errors.As(err, &invalid) || invalid.Total != 2 || invalid.Lines[0].Line != 2 || invalid.Lines[1].Line != 4 ||
		invalid.Lines[0].Code != CodeModelNotAllowed || invalid.Lines[0].Message != `line 2: body.model is "other", which is none of the models allowed here: gpt-*, org/*` {
		t.Errorf("error %+v", err)
	}
}
