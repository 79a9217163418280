package survey_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"fusillade/internal/batch"
	"fusillade/internal/jsonl"
	"fusillade/internal/survey"
	"fusillade/internal/upstream"
)

func read(t *testing.T, content string) (survey.File, error) {
	t.Helper()
	return survey.Read(t.Context(), strings.NewReader(content), jsonl.Config{AllowMixedEndpoints: true}, batch.Prices{"gpt-*": {Prompt: 1_000_000, Completion: 2_000_000}})
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
		Requests: 4, Bytes: int64(len(content)),
		Survey: batch.Survey{Repeated: 1, Models: []batch.ModelSurvey{
			{Model: "embed", Requests: 1, PromptTokens: 7, LongestPrompt: 7, LongestLine: 5},
			{Model: "gpt-4o", Requests: 3, PromptTokens: 12 + 515 + 12, CompletionTokens: 100 + 512 + 100, Unbounded: 1, LongestPrompt: 515, LongestLine: 2, Cost: &cost},
		}},
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
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if _, err := survey.Read(stopped, strings.NewReader(`{"custom_id":"a","url":"/v1/embeddings","body":{"model":"m"}}`), jsonl.Config{}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// Bodies beyond the bound are not compared, and the survey says so.
func TestManyBodies(t *testing.T) {
	t.Parallel()
	c := survey.NewBoundedCounter(5)
	for _, body := range []string{"a", "b", "a", "c", "d", "d", "b"} {
		c.Add(batch.Template{Model: "m", Path: "/v1/embeddings", Body: []byte(body)})
		if got := c.Survey(); got.RepeatedAtLeast != (got.Models[0].Requests > 5) {
			t.Errorf("after %d requests: %+v", got.Models[0].Requests, got)
		}
	}
	if got := c.Survey(); got.Repeated != 1 || got.Models[0].Requests != 7 {
		t.Errorf("%+v, want one repeated of the first five", got)
	}
}

// What is counted while a file is read is what is estimated for rate limits.
func TestCountsAsRateLimitsDo(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"model":"m","max_tokens":7,"n":3,"max_completion_tokens":9}`, `{ "n" : 5000, "model":"m", "x":{"max_tokens":5} }`,
		`{"model":"m","max_tokens":"many","u":"data:image/png;base64,` + strings.Repeat("A", 5000) + `"}`, `{"model":"m","n":0,"max_output_tokens":-1}`,
	} {
		got, err := read(t, `{"body":`+body+`,"custom_id":"a","url":"/v1/chat/completions"}`)
		if err != nil {
			t.Fatal(err)
		}
		prompt, completion, bounded := upstream.EstimateUse("/v1/chat/completions", []byte(body))
		if m := got.Models[0]; m.PromptTokens != prompt || m.CompletionTokens != completion || (m.Unbounded == 0) != bounded {
			t.Errorf("%s: %+v, want %d, %d, %v", body, m, prompt, completion, bounded)
		}
	}
}

// What a survey adds to reading a file: both in turn.
func BenchmarkCounter(b *testing.B) {
	for _, size := range []int{200, 1 << 10, 64 << 10} {
		b.Run(fmt.Sprintf("body=%d", size), func(b *testing.B) {
			var file strings.Builder
			n := (8 << 20) / size
			for i := range n {
				fmt.Fprintf(&file, `{"custom_id":"request-%d","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[{"role":"user","content":"%d%s"}],"max_tokens":100}}`+"\n", i, i, strings.Repeat("word ", size/5))
			}
			var without, with time.Duration
			for b.Loop() {
				began := time.Now()
				drain(b, file.String(), jsonl.Config{})
				without += time.Since(began)
				began = time.Now()
				drain(b, file.String(), jsonl.Config{Survey: survey.NewCounter()})
				with += time.Since(began)
			}
			perRequest := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / float64(b.N*n) }
			b.ReportMetric(perRequest(without), "ns/request-read")
			b.ReportMetric(perRequest(with-without), "ns/request-surveyed")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func drain(b *testing.B, file string, cfg jsonl.Config) {
	b.Helper()
	r, err := jsonl.NewReader(strings.NewReader(file), cfg)
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}
