package fusilladetest_test

import (
	"strings"
	"testing"

	"fusillade"
	"fusillade/fusilladetest"
)

// The program under test: it has a question answered.
func ask(t *testing.T, f *fusillade.Fusillade, question string) (answer string) {
	id, err := f.Submit(t.Context(), func(yield func(fusillade.Request, error) bool) {
		yield(fusillade.Request{CustomID: "question", Body: map[string]any{"model": "m", "messages": []any{
			map[string]any{"role": "user", "content": question},
		}}}, nil)
	}, fusillade.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	for r, err := range f.Results(t.Context(), id) {
		if err != nil {
			t.Fatal(err)
		}
		answer = string(r.Body)
	}
	return answer
}

// A test of a program, with an endpoint that is out of service at first.
func ExampleNew() {
	var t *testing.T // of the test
	down := true
	f := fusilladetest.New(t, fusilladetest.Answers(func(fusilladetest.Call) (int, string) {
		if down {
			down = false
			return 503, "down for maintenance"
		}
		return 200, "42"
	}))
	if answer := ask(t, f, "What is the answer?"); !strings.Contains(answer, "42") {
		t.Errorf("the answer is %s", answer)
	}
}
