package upstream

import (
	"slices"
	"strings"
	"testing"
)

func TestFinishReasons(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		answer string
		want   []string
	}{
		{`{"choices":[{"finish_reason":"stop"},{"index":1,"finish_reason":"length"}]}`, []string{"stop", "length"}},
		{`{"choices":[{"finish_reason":null},{"text":"x"}]}`, nil},
		{`{"type":"message","stop_reason":"end_turn","content":[]}`, []string{"end_turn"}},
		{`{"object":"response","status":"completed","output":[]}`, []string{"completed"}},
		{`{"object":"list","data":[]}`, nil},
		{`not JSON`, nil},
		{``, nil},
		// An endpoint that puts something else there does not get it into a span.
		{`{"choices":[{"finish_reason":"the answer to the question is 42"}]}`, []string{"other"}},
		{`{"choices":[{"finish_reason":"` + strings.Repeat("x", 65) + `"}]}`, []string{"other"}},
		{`{"choices":[` + strings.Repeat(`{"finish_reason":"stop"},`, 20) + `{}]}`, slices.Repeat([]string{"stop"}, maxFinishReasons)},
	} {
		if got := FinishReasons([]byte(tt.answer)); !slices.Equal(got, tt.want) {
			t.Errorf("%.60s: %q, want %q", tt.answer, got, tt.want)
		}
	}
}
