package upstream

import (
	"net/http/httptest"
	"testing"

	"fusillade/internal/jsonl"
	"fusillade/internal/mock"
)

// Whatever a file may name by default is answered by the mock, and its answer
// is one.
func TestMockAnswers(t *testing.T) {
	t.Parallel()
	handler, err := mock.New(mock.Config{Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	client := newClient(t, Config{})
	for _, base := range []string{server.URL, server.URL + "/v1"} {
		for _, path := range jsonl.DefaultEndpoints {
			request := chatRequest(base)
			request.Path = path
			request.Body = []byte(`{"model":"m","messages":[],"prompt":"a","input":["a","b"],"query":"a","documents":["a",{"text":"b"}],"text_1":"a","text_2":["a","b"],"n":2}`)
			if got := client.Do(t.Context(), request); got.Reason != "" {
				t.Errorf("%s, %s: %s: %s", base, path, got.Reason, got.Detail)
			}
			if answerMember(path) == "" {
				t.Errorf("%s: any object is an answer", path)
			}
		}
	}
}
