package fusilladetest_test

import (
	"strings"
	"sync/atomic"
	"testing"

	"fusillade"
	"fusillade/fusilladetest"
	"fusillade/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func one(id string) func(func(fusillade.Request, error) bool) {
	return func(yield func(fusillade.Request, error) bool) {
		yield(fusillade.Request{CustomID: id, Body: map[string]any{"model": "m", "messages": []any{}}}, nil)
	}
}

// A test scripts the endpoint, in its own database or an embedded one.
func TestNew(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it needs Postgres")
	}
	for name, change := range map[string]func(*fusillade.Config){
		"a database of the test's own": func(c *fusillade.Config) { c.DatabaseURL = testenv.DatabaseURL(t) },
		"all embedded":                 func(*fusillade.Config) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			f := fusilladetest.New(t, fusilladetest.Answers(func(c fusilladetest.Call) (int, string) {
				if c.CustomID != "a" || c.Model != "m" || c.Path != "/v1/chat/completions" || !strings.Contains(string(c.Body), "messages") {
					t.Errorf("%+v", c)
				}
				if calls.Add(1) == 1 {
					return 503, "not now"
				}
				return 200, "hello"
			}), change)
			id, err := f.Submit(t.Context(), one("a"), fusillade.SubmitOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if b, err := f.Wait(t.Context(), id); err != nil || b.Completed != 1 {
				t.Errorf("%+v, %v", b, err)
			}
			for r, err := range f.Results(t.Context(), id) {
				if err != nil || r.Attempts != 2 || !strings.Contains(string(r.Body), `"content":"hello"`) {
					t.Errorf("%+v, %v", r, err)
				}
			}
		})
	}
}
