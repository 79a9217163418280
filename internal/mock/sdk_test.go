package mock

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/respjson"
	"github.com/openai/openai-go/v3/responses"
)

const (
	weather      = `"name":"weather","parameters":{"type":"object","properties":{"city":{"type":"string","enum":["Oslo","Rome"]}},"required":["city"],"additionalProperties":false},"strict":true`
	chatTools    = `"tools":[{"type":"function","function":{"name":"other"}},{"type":"function","function":{` + weather + `}}]`
	responseTool = `"tools":[{"type":"function",` + weather + `}]`
)

// Every answer has what OpenAI's SDK declares as required, in the types that it
// declares.
func TestAnswersFitTheSDK(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	for _, test := range []struct {
		path, body string
		into       any
		has        []string // of the answer's text
	}{
		{"/v1/chat/completions", `{"model":"m","messages":[]}`, &openai.ChatCompletion{}, []string{`"finish_reason":"stop"`}},
		{"/v1/chat/completions", `{"model":"m","messages":[],"n":3,"max_completion_tokens":2}`, &openai.ChatCompletion{}, []string{`"finish_reason":"length"`, `"index":2`, `"completion_tokens":6`}},
		{"/v1/chat/completions", `{"model":"m","messages":[],"logprobs":true,"top_logprobs":2}`, &openai.ChatCompletion{}, []string{`"top_logprobs":[{`}},
		{"/v1/chat/completions", `{"model":"m","messages":[],"response_format":{"type":"json_object"}}`, &openai.ChatCompletion{}, []string{`{\"answer\":`}},
		{"/v1/chat/completions", `{"model":"m","messages":[],` + chatTools + `}`, &openai.ChatCompletion{}, []string{`"finish_reason":"stop"`}},
		{"/v1/chat/completions", `{"model":"m","messages":[],` + chatTools + `,"tool_choice":"required"}`, &openai.ChatCompletion{}, []string{`"name":"other"`, `"arguments":"{}"`}},
		{"/v1/chat/completions", `{"model":"m","messages":[],` + chatTools + `,"tool_choice":{"type":"function","function":{"name":"weather"}}}`,
			&openai.ChatCompletion{}, []string{`"name":"weather"`, `{\"city\":\"`, `"finish_reason":"tool_calls"`, `"content":null`}},
		{"/v1/completions", `{"model":"m","prompt":"x","n":2}`, &openai.Completion{}, []string{`"index":1`}},
		{"/v1/completions", `{"model":"m","prompt":"x","logprobs":1,"max_tokens":3}`, &openai.Completion{}, []string{`"text_offset":[0,`, `"finish_reason":"length"`}},
		{"/v1/embeddings", `{"model":"m","input":["a","b"]}`, &openai.CreateEmbeddingResponse{}, []string{`"index":1`}},
		{"/v1/moderations", `{"input":["a",{"type":"text","text":"b"}]}`, &openai.ModerationNewResponse{}, []string{`"model":"omni-moderation-latest"`}},
		{"/v1/moderations", `{"model":"m","input":"a"}`, &openai.ModerationNewResponse{}, []string{`"flagged":false`}},
		{"/v1/responses", `{"model":"m","input":"x"}`, &responses.Response{}, []string{`"status":"completed"`}},
		{"/v1/responses", `{"model":"m","input":"x","max_output_tokens":2}`, &responses.Response{}, []string{`"status":"incomplete"`, `"reason":"max_output_tokens"`}},
		{"/v1/responses", `{"model":"m","input":"x",` + responseTool + `,"tool_choice":"required"}`, &responses.Response{}, []string{`"type":"function_call"`, `"name":"weather"`}},
		{"/v1/responses", `{"model":"m","input":"x",` + responseTool + `,"tool_choice":{"type":"function","name":"weather"}}`, &responses.Response{}, []string{`{\"city\":\"`}},
		{"/v1/models", ``, &modelPage{}, nil},
	} {
		method := "POST"
		if test.body == "" {
			method = "GET"
		}
		status, _, answer := f.must(t, method, test.path, "id-1", test.body)
		if status != 200 {
			t.Errorf("%s %s: status %d: %s", test.path, test.body, status, answer)
			continue
		}
		if err := json.Unmarshal(answer, test.into); err != nil {
			t.Errorf("%s: %v", test.path, err)
		}
		wantFields(t, test.path+test.body, reflect.ValueOf(test.into).Elem())
		for _, part := range test.has {
			if !strings.Contains(string(answer), part) {
				t.Errorf("%s %s: %s: no %s", test.path, test.body, answer, part)
			}
		}
	}
	for body, want := range map[string]string{
		`{"model":"m","n":129}`:                                                        "n is 129",
		`{"model":"m","max_tokens":-1}`:                                                "max_tokens",
		`{"model":"m","tool_choice":"required"}`:                                       "there are no tools",
		`{"model":"m","top_logprobs":21}`:                                              "top_logprobs is 21",
		`{"model":"m","response_format":{"type":"yaml"}}`:                              "not known",
		`{"model":"m",` + chatTools + `,"tool_choice":{"function":{"name":"nobody"}}}`: `no tool named "nobody"`,
	} {
		if status, _, answer := f.must(t, "POST", "/v1/chat/completions", "id", body); status != 400 || !strings.Contains(decode[errorBody](t, answer).Error.Message, want) {
			t.Errorf("%s: status %d: %s", body, status, answer)
		}
	}
}

type modelPage struct {
	Data []openai.Model `json:"data"`
}

// newerThanTheMock are fields that are no part of what the endpoints of others
// answer either.
var newerThanTheMock = map[string]bool{"AccessPrograms": true}

// wantFields reports fields that the SDK declares as required and that were not
// there, or of another type, in a value that was decoded.
func wantFields(t *testing.T, where string, v reflect.Value) {
	t.Helper()
	switch v.Kind() {
	case reflect.Slice:
		for i := range v.Len() {
			wantFields(t, where, v.Index(i))
		}
		return
	case reflect.Struct:
	default:
		return
	}
	meta := v.FieldByName("JSON")
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.IsExported() || field.Name == "JSON" {
			continue
		}
		if !meta.IsValid() || !meta.FieldByName(field.Name).IsValid() {
			wantFields(t, where+"."+field.Name, v.Field(i))
			continue
		}
		found := meta.FieldByName(field.Name).Interface().(respjson.Field)
		isNull := found.Raw() == "null" // what may be null, SDKs of other languages check
		if strings.Contains(field.Tag.Get("api"), "required") && !newerThanTheMock[field.Name] && !found.Valid() && !isNull {
			t.Errorf("%s: %s is required: %q", where, field.Name, found.Raw())
		}
		if found.Valid() {
			wantFields(t, where+"."+field.Name, v.Field(i))
		}
	}
}
