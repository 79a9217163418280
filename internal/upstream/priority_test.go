package upstream

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"fusillade/internal/batch"
	"fusillade/internal/endpoint"
)

// withPriority is the body as it is sent with a priority.
func withPriority(body []byte, priority int64) []byte {
	edited, err := editBody("/v1/embeddings", body, changes{priority: strconv.FormatInt(priority, 10)})
	if err != nil {
		panic(err)
	}
	return edited.splice(true)
}

func TestWithPriority(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`{"model":"m"}`:                                         `{"priority":7,"model":"m"}`,
		` { } `:                                                 ` {"priority":7 } `,
		"{\n\"a\": 1}":                                          "{\"priority\":7,\n\"a\": 1}",
		`{"priority":-5,"a":1}`:                                 `{"priority":7,"a":1}`,
		`{"a":1, "priority" : -5 , "b":2}`:                      `{"a":1, "priority" : 7 , "b":2}`,
		`{"a":1,"priority":-1e9}`:                               `{"a":1,"priority":7}`,
		`{"priority":"-5"}`:                                     `{"priority":7}`,
		`{"priority":null}`:                                     `{"priority":7}`,
		`{"priority":{"priority":[-5]}}`:                        `{"priority":7}`,
		`{"priority":7}`:                                        `{"priority":7}`,
		`{"priority":1,"a":2,"priority":3}`:                     `{"priority":7,"a":2,"priority":7}`,
		`{"prior\u0069ty":1}`:                                   `{"prior\u0069ty":7}`,
		`{"\u0070\u0072iority":1,"priority":2}`:                 `{"\u0070\u0072iority":7,"priority":7}`,
		`{"a":{"priority":1},"b":[{"priority":2}]}`:             `{"priority":7,"a":{"priority":1},"b":[{"priority":2}]}`,
		`{"a":"\",\"priority\":1","priorities":2,"prioritx":3}`: `{"priority":7,"a":"\",\"priority\":1","priorities":2,"prioritx":3}`,
		`{"\\priority":1,"priority\"":2,"Priority":3}`:          `{"priority":7,"\\priority":1,"priority\"":2,"Priority":3}`,
		`{"a":0.10,"b":"é\u00e9/\/","c":1e400}`:                 `{"priority":7,"a":0.10,"b":"é\u00e9/\/","c":1e400}`,
		`[{"priority":1}]`:                                      `[{"priority":1}]`,
		`"priority"`:                                            `"priority"`,
		``:                                                      ``,
	} {
		given := []byte(body)
		if got := string(withPriority(given, 7)); got != want {
			t.Errorf("%s became\n%s, want\n%s", body, got, want)
		}
		if string(given) != body {
			t.Errorf("%s was changed in place", body)
		}
	}
}

// Nothing but the priority changes, whatever the body.
func TestWithPriorityChangesNothingElse(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var out strings.Builder
		out.WriteString(rapid.SampledFrom([]string{`{"x":`, `{"priority":1,"x":`, `{"p\u0072iority" : {"priority":[-1]} , "x":`}).Draw(t, "begin"))
		drawValue(t, &out, 0)
		out.WriteString(rapid.SampledFrom([]string{`}`, ` , "priority": -9 }`}).Draw(t, "end"))
		var before, after map[string]json.RawMessage
		if err := json.Unmarshal([]byte(out.String()), &before); err != nil {
			t.Fatal(err)
		}
		got := withPriority([]byte(out.String()), -3)
		if err := json.Unmarshal(got, &after); err != nil {
			t.Fatalf("%s became %s: %v", out.String(), got, err)
		}
		if string(after["priority"]) != "-3" || !bytes.Equal(before["x"], after["x"]) || len(after) > 2 {
			t.Fatalf("%s became %s", out.String(), got)
		}
	})
}

// The deadline is sent where the options say so, to every replica and beside a
// stream, and an engine that refuses it is heard.
func TestDeadlineIsSentAsThePriority(t *testing.T) {
	t.Parallel()
	const refusal = `{"error":{"message":"Got priority 1893456000 but Priority scheduling is not enabled.","type":"BadRequestError","code":400}}`
	bodies := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies <- string(body)
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, refusal)
	}))
	t.Cleanup(server.Close)
	client := newClient(t, Config{})
	deadline := time.Date(2030, 1, 1, 0, 0, 0, 999_000_000, time.FixedZone("", 3600)).Add(time.Hour)
	for name, test := range map[string]struct {
		options  *endpoint.Options
		deadline time.Time
		want     string
	}{
		"nothing is said": {nil, deadline, `{"model":"m","priority":-1}`},
		"off":             {&endpoint.Options{SendPriority: endpoint.Off}, deadline, `{"model":"m","priority":-1}`},
		"on":              {&endpoint.Options{SendPriority: endpoint.On}, deadline, `{"model":"m","priority":1893456000}`},
		"no deadline":     {&endpoint.Options{SendPriority: endpoint.On}, time.Time{}, `{"model":"m","priority":-1}`},
		"replicas":        {&endpoint.Options{SendPriority: endpoint.On, More: []string{server.URL + "/v1"}}, deadline, `{"model":"m","priority":1893456000}`},
		"a stream": {&endpoint.Options{SendPriority: endpoint.On, Stream: endpoint.On}, deadline,
			`{"stream":true,"stream_options":{"include_usage":true},"model":"m","priority":1893456000}`},
	} {
		request := chatRequest(server.URL)
		request.Body, request.Options, request.Deadline = []byte(`{"model":"m","priority":-1}`), test.options, test.deadline
		outcome := client.Do(t.Context(), request)
		if got := <-bodies; got != test.want {
			t.Errorf("%s: sent %s, want %s", name, got, test.want)
		}
		if outcome.Reason != batch.NonRetriableHTTPStatus || string(outcome.Response.Body) != refusal {
			t.Errorf("%s: %q with %s", name, outcome.Reason, outcome.Response.Body)
		}
	}
}
