package upstream

import (
	"strings"
	"testing"
)

func TestEstimateTokens(t *testing.T) {
	t.Parallel()
	picture := `"data:image/png;base64,` + strings.Repeat("A", 400_000) + `"`
	for name, tt := range map[string]struct {
		path, body string
		want       int64
	}{
		"answer bounded":        {"/v1/chat/completions", `{"max_tokens":100,"messages":[]}`, 32/4 + 100},
		"several answers":       {"/v1/chat/completions", `{"n":3,"max_completion_tokens":10}`, 34/4 + 30},
		"the larger bound":      {"/v1/chat/completions", `{"max_tokens":5,"max_completion_tokens":10}`, 43/4 + 10},
		"responses":             {"/v1/responses", `{"max_output_tokens":7,"input":"x"}`, 35/4 + 7},
		"answer unbounded":      {"/v1/completions", `{"prompt":"abcd"}`, 17/4 + unboundedOutput},
		"no answer in tokens":   {"/v1/embeddings", `{"input":"abcdefgh","max_tokens":9}`, 35 / 4},
		"a picture":             {"/v1/chat/completions", `{"max_tokens":1,"u":` + picture + `}`, 21/4 + 1 + attachmentTokens},
		"nonsense":              {"/v1/chat/completions", `{"max_tokens":"many","n":-4}`, 28/4 + unboundedOutput},
		"a bound beyond reason": {"/v1/chat/completions", `{"max_tokens":9000000000000000000,"n":1000000}`, 46/4 + maxEstimate/1024*1024},
		"no JSON":               {"/v1/chat/completions", `abcdefgh`, 2 + unboundedOutput},
		"empty":                 {"/v1/embeddings", ``, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := EstimateTokens(tt.path, []byte(tt.body)); got != tt.want {
				t.Errorf("estimated %d tokens, want %d", got, tt.want)
			}
		})
	}
}
