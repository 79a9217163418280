package survey_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/survey"
)

func read(t *testing.T, content string) (survey.File, error) {
	t.Helper()
	r, err := jsonl.NewReader(strings.NewReader(content), jsonl.Config{AllowMixedEndpoints: true})
	if err != nil {
		t.Fatal(err)
	}
	return survey.Read(t.Context(), r, batch.Prices{"gpt-*": {Prompt: 1_000_000, Completion: 2_000_000}})
}

func TestRead(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word ", 400)
	content := `{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"gpt-4o","max_tokens":100,"messages":[]}}
{"custom_id":"b","url":"/v1/chat/completions","body":{"model":"gpt-4o","messages":[{"role":"user","content":"` + long + `"}]}}

{"custom_id":"c","url":"/v1/chat/completions","body":{"model":"gpt-4o","max_tokens":100,"messages":[]}}
{"custom_id":"d","url":"/v1/embeddings","body":{"model":"embed","input":"x"}}
`
	got, err := read(t, content)
	if err != nil {
		t.Fatal(err)
	}
	cost := batch.Money(12 + 515 + 12 + 2*(100+512+100))
	want := survey.File{
		Requests: 4, Bytes: int64(len(content)), Repeated: 1,
		Models: []survey.Model{
			{Model: "embed", Requests: 1, PromptTokens: 7, LongestPrompt: 7, LongestLine: 5},
			{Model: "gpt-4o", Requests: 3, PromptTokens: 12 + 515 + 12, CompletionTokens: 100 + 512 + 100, Unbounded: 1, LongestPrompt: 515, LongestLine: 2, Cost: &cost},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	var invalid *jsonl.InvalidFileError
	if _, err := read(t, "nonsense\n"); !errors.As(err, &invalid) {
		t.Errorf("a bad file: %v", err)
	}
	r, err := jsonl.NewReader(strings.NewReader(`{"custom_id":"a","url":"/v1/embeddings","body":{"model":"m"}}`), jsonl.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := survey.Read(stopped, r, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}
