package mock

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fixture is a mock server, reached over HTTP.
type fixture struct {
	*Server
	url    string
	client *http.Client
}

func newFixture(t testing.TB, cfg Config) fixture {
	t.Helper()
	server, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	listening := httptest.NewServer(server)
	t.Cleanup(listening.Close)
	return fixture{Server: server, url: listening.URL, client: listening.Client()}
}

// do returns status, header and body of one request.
func (f fixture) do(ctx context.Context, method, path, customID, body string) (int, http.Header, []byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, f.url+path, strings.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	request.Header.Set("X-Fusillade-Custom-Id", customID)
	response, err := f.client.Do(request)
	if err != nil {
		return 0, nil, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, response.Header, answer, err
}

// must is do where nothing may fail.
func (f fixture) must(t testing.TB, method, path, customID, body string) (int, http.Header, []byte) {
	t.Helper()
	status, header, answer, err := f.do(t.Context(), method, path, customID, body)
	if err != nil {
		t.Fatal(err)
	}
	return status, header, answer
}

func (f fixture) chat(t testing.TB, model, customID string) int {
	t.Helper()
	status, _, _ := f.must(t, "POST", "/v1/chat/completions", customID, `{"model":"`+model+`"}`)
	return status
}

func decode[T any](t testing.TB, body []byte) (value T) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&value); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return value
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{OutputTokens: 5})
	body := `{"model":"org/m:1","input":"some text that counts"}`
	tokens := len(body) / bytesPerToken

	status, header, answer := f.must(t, "POST", "/v1/chat/completions", "id-1", body)
	chat := decode[chatCompletion](t, answer)
	if status != 200 || header.Get("Content-Type") != "application/json" || header.Get("X-Request-Id") == "" {
		t.Errorf("status %d, header %v", status, header)
	}
	if chat.Object != "chat.completion" || chat.Model != "org/m:1" || chat.Choices[0].Message.Role != "assistant" {
		t.Errorf("%+v", chat)
	}
	if words := strings.Fields(strings.TrimPrefix(*chat.Choices[0].Message.Content, "Answer to id-1: ")); len(words) != 5 {
		t.Errorf("content %q", *chat.Choices[0].Message.Content)
	}
	if diff := cmp.Diff(usage{tokens, 5, tokens + 5}, chat.Usage); diff != "" {
		t.Errorf("usage (-want +got):\n%s", diff)
	}

	_, _, answer = f.must(t, "POST", "/v1/completions", "id-1", body)
	if got := decode[completion](t, answer); got.Object != "text_completion" || !strings.HasPrefix(got.Choices[0].Text, "Answer to id-1: ") {
		t.Errorf("%+v", got)
	}
	_, _, answer = f.must(t, "POST", "/v1/responses", "id-1", body)
	if got := decode[response](t, answer); got.Status != "completed" || got.Usage.OutputTokens != 5 || !strings.HasPrefix(got.Output[0].Content[0].Text, "Answer to id-1: ") {
		t.Errorf("%+v", got)
	}
	_, _, answer = f.must(t, "GET", "/v1/models", "", "")
	if got := decode[modelList](t, answer); len(got.Data) != 1 || got.Data[0].ID != "org/m:1" {
		t.Errorf("%+v", got)
	}
}

func TestEmbeddings(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for input, want := range map[string]int{`"a"`: 1, `["a","b","c"]`: 3, `[1,2,3]`: 1, `[[1],[2]]`: 2} {
		_, _, answer := f.must(t, "POST", "/v1/embeddings", "id", `{"model":"m","dimensions":3,"input":`+input+`}`)
		got := decode[embeddings](t, answer)
		if len(got.Data) != want || len(got.Data[0].Embedding.([]any)) != 3 || got.Data[want-1].Index != want-1 {
			t.Errorf("%s: %s", input, answer)
		}
	}
	_, _, answer := f.must(t, "POST", "/v1/embeddings", "id", `{"model":"m","input":"a","encoding_format":"base64"}`)
	raw, err := base64.StdEncoding.DecodeString(decode[embeddings](t, answer).Data[0].Embedding.(string))
	if err != nil || len(raw) != 4*defaultDimensions {
		t.Errorf("%d bytes, %v", len(raw), err)
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, test := range []struct {
		path, body, want string
		status           int
	}{
		{"/v1/chat/completions", `{`, "not the JSON object", 400},
		{"/v1/chat/completions", `[]`, "not the JSON object", 400},
		{"/v1/chat/completions", `{}`, "model is missing", 400},
		{"/v1/chat/completions", `{"messages":[]`, "not the JSON object", 400},
		{"/v1/chat/completions", `{"messages":[}`, "not the JSON object", 400},
		{"/v1/chat/completions", `{"messages":[],"model":7}`, "not the JSON object", 400},
		{"/v1/chat/completions", `{"model":"m","stream":"yes"}`, "not the JSON object", 400},
		{"/v1/embeddings", `{"model":"m"}`, "input", 400},
		{"/v1/embeddings", `{"model":"m","input":[]}`, "input", 400},
		{"/v1/embeddings", `{"model":"m","input":"a","dimensions":5000}`, "dimensions", 400},
		{"/v2/chat", `{}`, "no such endpoint: POST /v2/chat", 404},
	} {
		status, _, answer := f.must(t, "POST", test.path, "id", test.body)
		if got := decode[errorBody](t, answer); status != test.status || !strings.Contains(got.Error.Message, test.want) {
			t.Errorf("%s %s: %d %s", test.path, test.body, status, answer)
		}
	}
	if got := f.Stats().Models[unparsedModel]; got.Calls != 10 || got.ByStatus[400] != 10 {
		t.Errorf("%+v", got)
	}
}

// Containers ask by `fusillade health`; it counts as no call.
func TestHealth(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, path := range []string{"/livez", "/readyz"} {
		if status, _, answer := f.must(t, "GET", path, "", ""); status != http.StatusOK || len(answer) == 0 {
			t.Errorf("%s: %d %s", path, status, answer)
		}
	}
	if got := f.Stats(); len(got.Models) != 0 {
		t.Errorf("%+v", got)
	}
}

// outcomes calls every custom id three times and lists what came back.
func outcomes(t *testing.T, cfg Config) []string {
	t.Helper()
	f := newFixture(t, cfg)
	var all []string
	for i := range 300 {
		for range 3 {
			status, header, answer := f.must(t, "POST", "/v1/chat/completions", fmt.Sprintf("id-%d", i), `{"model":"m"}`)
			all = append(all, fmt.Sprintf("%d %s %s", status, header.Get("X-Request-Id"), answer))
		}
	}
	return all
}

func TestRunsRepeat(t *testing.T) {
	t.Parallel()
	cfg := Config{Settings: Settings{Errors: "429=0.1,500=0.1,400=0.1"}, Seed: 7}
	first := outcomes(t, cfg)
	if diff := cmp.Diff(first, outcomes(t, cfg)); diff != "" {
		t.Errorf("two runs with one seed differ:\n%s", diff)
	}
	cfg.Seed = 8
	if cmp.Equal(first, outcomes(t, cfg)) {
		t.Error("two seeds give the same run")
	}
	transient := 0
	for i := 0; i < len(first); i += 3 {
		final := 0
		for _, outcome := range first[i : i+3] {
			switch outcome[:3] {
			case "400":
				final++
			case "429", "500":
				transient++
			}
		}
		if final != 0 && final != 3 {
			t.Errorf("a final error is not sticky: %q", first[i:i+3])
		}
	}
	if transient == 0 {
		t.Error("no error in 900 calls")
	}
}

func TestWithoutCustomIDsAttemptDecides(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{Settings: Settings{Errors: "500=0.5"}, DropCustomIDs: true})
	perAttempt := make([]int, 20)
	for round := range 2 {
		for attempt := range perAttempt {
			request, err := http.NewRequestWithContext(t.Context(), "POST", f.url+"/v1/responses", strings.NewReader(`{"model":"m"}`))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Fusillade-Custom-Id", "id")
			request.Header.Set("X-Fusillade-Attempt", fmt.Sprint(attempt))
			answer, err := f.client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			_ = answer.Body.Close()
			if round == 1 && perAttempt[attempt] != answer.StatusCode {
				t.Errorf("attempt %d: %d, then %d", attempt, perAttempt[attempt], answer.StatusCode)
			}
			perAttempt[attempt] = answer.StatusCode
		}
	}
	if got := f.Stats().ByStatus; got[200] == 0 || got[500] == 0 {
		t.Errorf("every attempt fares alike: %v", got)
	}
	if got := f.CustomIDs(); len(got) != 0 {
		t.Errorf("recorded %v", got)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for errors, want := range map[string]string{"429=1": "7", "503=1": "7", "500=1": "", "400=1": ""} {
		f := newFixture(t, Config{Settings: Settings{Errors: errors, RetryAfterSeconds: 7}})
		_, header, answer := f.must(t, "POST", "/v1/chat/completions", "id", `{"model":"m"}`)
		if got := header.Get("Retry-After"); got != want {
			t.Errorf("%s: Retry-After %q, want %q", errors, got, want)
		}
		decode[errorBody](t, answer)
	}
}
