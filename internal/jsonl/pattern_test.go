package jsonl

import (
	"errors"
	"strings"
	"testing"
)

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
