package jsonl

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"fusillade/internal/batch"
)

func result(change func(*batch.Result)) batch.Result {
	r := batch.Result{
		ID:         batch.RequestID{Batch: batch.ID{15: 1}, Line: 2},
		CustomID:   "a",
		State:      batch.Completed,
		StatusCode: 200,
		RequestID:  "req_1",
		Body:       []byte("{}"),
		Attempts:   1,
	}
	change(&r)
	return r
}

const resultID = "batch_req_0000000000000000000000000000000100000002"

func TestAppendOutputLine(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*batch.Result)
		want   string // after the id
	}{
		"plain": {
			func(*batch.Result) {},
			`"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":{}},"error":null}`,
		},
		"white space goes, all else stays": {
			func(r *batch.Result) {
				r.Body = []byte("\n{ \"b\" : [1.50, -0.0, 1E+2, 12345678901234567890],\r\n\t\"a\": \"\\u00e9 \\/<é\u2028>\",\"a\":null }\n")
			},
			"\"custom_id\":\"a\",\"response\":{\"status_code\":200,\"request_id\":\"req_1\",\"body\":{\"b\":[1.50,-0.0,1E+2,12345678901234567890],\"a\":\"\\u00e9 \\/<é\\u2028>\",\"a\":null}},\"error\":null}",
		},
		"lone surrogate": {
			func(r *batch.Result) { r.Body = []byte(`"\ud800"`) },
			`"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":"\ufffd"},"error":null}`,
		},
		"text": {
			func(r *batch.Result) { r.Body = []byte("<p>\"no\"\n\x00</p>") },
			`"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":"<p>\"no\"\n\u0000</p>"},"error":null}`,
		},
		"two values": {
			func(r *batch.Result) { r.Body = []byte("{}\n{}") },
			`"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":"{}\n{}"},"error":null}`,
		},
		"no UTF-8 in text": {
			func(r *batch.Result) { r.Body = []byte("a\xffb") },
			`"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":"a` + "\uFFFD" + `b"},"error":null}`,
		},
		"no UTF-8 in JSON": {
			func(r *batch.Result) { r.Body = []byte("{\"a\":\"\xff\"}") },
			`"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":{"a":"` + "\uFFFD" + `"}},"error":null}`,
		},
		"no body":        {func(r *batch.Result) { r.Body = nil }, `"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":null},"error":null}`},
		"empty body":     {func(r *batch.Result) { r.Body = []byte{} }, `"custom_id":"a","response":{"status_code":200,"request_id":"req_1","body":""},"error":null}`},
		"no upstream id": {func(r *batch.Result) { r.RequestID = "" }, `"custom_id":"a","response":{"status_code":200,"request_id":"","body":{}},"error":null}`},
		"escapes": {
			func(r *batch.Result) { r.CustomID, r.RequestID = "\"\\\n\x00\xff", "\"}" },
			`"custom_id":"\"\\\n\u0000` + "\uFFFD" + `","response":{"status_code":200,"request_id":"\"}","body":{}},"error":null}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := string(AppendOutputLine([]byte("before\n"), result(test.change)))
			want := "before\n" + `{"id":"` + resultID + `",` + test.want + "\n"
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAppendErrorLine(t *testing.T) {
	t.Parallel()
	const noResponse = `"custom_id":"a","response":null,`
	failed := func(reason batch.Reason) func(*batch.Result) {
		return func(r *batch.Result) {
			r.State, r.Reason, r.StatusCode, r.RequestID, r.Body, r.Attempts = batch.Failed, reason, 0, "", nil, 3
		}
	}
	for name, test := range map[string]struct {
		change func(*batch.Result)
		want   string // after the id
	}{
		"refused": {
			func(r *batch.Result) {
				r.State, r.Reason, r.StatusCode, r.Body = batch.Failed, batch.NonRetriableHTTPStatus, 400, []byte(`{"error": 1}`)
			},
			`"custom_id":"a","response":{"status_code":400,"request_id":"req_1","body":{"error":1}},"error":{"code":"non_retriable_http_status","message":"The model endpoint answered with status 400, which is not retried (1 attempt)."}}`,
		},
		"retries used up": {
			func(r *batch.Result) {
				r.State, r.Reason, r.StatusCode, r.Body, r.Attempts = batch.Failed, batch.RetriableHTTPStatus, 503, []byte("busy"), 4
			},
			`"custom_id":"a","response":{"status_code":503,"request_id":"req_1","body":"busy"},"error":{"code":"retriable_http_status","message":"The model endpoint answered with status 503, and no retry was left (4 attempts)."}}`,
		},
		"an answer that Postgres cannot store": {
			func(r *batch.Result) {
				r.State, r.Reason, r.RequestID, r.Body = batch.Failed, batch.ResponseUnstorable, "", nil
			},
			`"custom_id":"a","response":{"status_code":200,"request_id":"","body":null},"error":{"code":"response_unstorable","message":"The model endpoint answered with status 200, and the database cannot store the answer (1 attempt)."}}`,
		},
		"network, with its cause": {
			func(r *batch.Result) {
				failed(batch.NetworkError)(r)
				r.Cause = "untrusted certificate: it has expired or is not valid yet"
			},
			noResponse + `"error":{"code":"network_error","message":"The model endpoint could not be reached, or the connection broke: untrusted certificate: it has expired or is not valid yet (3 attempts)."}}`,
		},
		"canceled after a failure": {
			func(r *batch.Result) {
				failed(batch.BatchCancelled)(r)
				r.State, r.Cause = batch.Canceled, "its last call ended with not_found (status 404): no such model"
			},
			noResponse + `"error":{"code":"batch_cancelled","message":"The request was cancelled before it finished; its last call ended with not_found (status 404): no such model."}}`,
		},
		"network":    {failed(batch.NetworkError), noResponse + `"error":{"code":"network_error","message":"The model endpoint could not be reached, or the connection broke (3 attempts)."}}`},
		"timeout":    {failed(batch.Timeout), noResponse + `"error":{"code":"timeout","message":"The model endpoint did not answer in time (3 attempts)."}}`},
		"terminated": {failed(batch.TaskTerminated), noResponse + `"error":{"code":"task_terminated","message":"The process that made the call stopped before it ended (3 attempts)."}}`},
		"builder":    {failed(batch.BuilderError), noResponse + `"error":{"code":"builder_error","message":"The HTTP request could not be built (3 attempts)."}}`},
		"poisoned":   {failed(batch.Poisoned), noResponse + `"error":{"code":"poisoned","message":"The request stopped the process that worked on it too often (3 attempts)."}}`},
		"no key":     {failed(batch.CredentialUnavailable), noResponse + `"error":{"code":"credential_unavailable","message":"The API key for the model endpoint could not be read (3 attempts)."}}`},
		"unknown":    {failed("new_reason"), noResponse + `"error":{"code":"new_reason","message":"The request failed (3 attempts)."}}`},
		"no reason":  {failed(""), noResponse + `"error":{"code":"failed","message":"The request failed."}}`},
		"cancelled": {
			func(r *batch.Result) { failed("")(r); r.State, r.Attempts = batch.Canceled, 0 },
			noResponse + `"error":{"code":"batch_cancelled","message":"The request was cancelled before it finished."}}`,
		},
		"expired while its last attempt had failed": {
			func(r *batch.Result) {
				r.State, r.Reason, r.StatusCode, r.Body = batch.Expired, batch.RetriableHTTPStatus, 503, nil
			},
			`"custom_id":"a","response":{"status_code":503,"request_id":"req_1","body":null},"error":{"code":"batch_expired","message":"The batch expired before the request finished."}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := string(AppendErrorLine(nil, result(test.change)))
			if diff := cmp.Diff(`{"id":"`+resultID+`",`+test.want+"\n", got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// decoded is a JSON value with its numbers as they are written.
func decoded(body []byte) (value any) {
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		return err
	}
	return value
}

// checkLine reads the output and the error line of r back.
func checkLine(t interface{ Fatalf(string, ...any) }, r batch.Result) {
	for _, line := range [][]byte{AppendOutputLine(nil, r), AppendErrorLine(nil, r)} {
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Fatalf("not one line: %q", line)
		}
		var got struct {
			ID       string
			CustomID string `json:"custom_id"`
			Response struct {
				StatusCode int    `json:"status_code"`
				RequestID  string `json:"request_id"`
				Body       json.RawMessage
			}
		}
		if err := json.Unmarshal(line, &got); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		if got.ID != r.ID.String() || got.CustomID != asRunes(r.CustomID) || got.Response.StatusCode != r.StatusCode || got.Response.RequestID != asRunes(r.RequestID) {
			t.Fatalf("%+v became %q", r, line)
		}
		valid := bytes.ToValidUTF8(r.Body, []byte("\uFFFD"))
		want := new(bytes.Buffer)
		if json.Compact(want, valid) == nil {
			// Byte for byte, but for what is written as an escape, or of one.
			changed := bytes.Contains(valid, []byte(`\u`)) || bytes.ContainsAny(valid, "\u0085\u2028\u2029")
			if !bytes.Equal(got.Response.Body, want.Bytes()) && (!changed || !reflect.DeepEqual(decoded(got.Response.Body), decoded(valid))) {
				t.Fatalf("body %q became %q", r.Body, got.Response.Body)
			}
			continue
		}
		var text string
		if err := json.Unmarshal(got.Response.Body, &text); err != nil || text != string(valid) {
			t.Fatalf("body %q became %q", r.Body, got.Response.Body)
		}
	}
}

// asRunes replaces every byte that is no UTF-8 by U+FFFD.
func asRunes(s string) string { return string([]rune(s)) }

func TestLinesReadBack(t *testing.T) {
	t.Parallel()
	leaves := rapid.OneOf(
		rapid.Map(rapid.String(), func(s string) any { return s }),
		rapid.Map(rapid.Float64(), func(f float64) any { return f }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
	)
	indent := rapid.SampledFrom([]string{"", " ", "\t"})
	rapid.Check(t, func(t *rapid.T) {
		body := rapid.SliceOf(rapid.Byte()).Draw(t, "body")
		if rapid.Bool().Draw(t, "JSON") {
			var err error
			body, err = json.MarshalIndent(rapid.MapOf(rapid.String(), rapid.SliceOf(leaves)).Draw(t, "object"), "", indent.Draw(t, "indent"))
			if err != nil {
				t.Fatal(err)
			}
		}
		checkLine(t, result(func(r *batch.Result) {
			r.Body = body
			r.CustomID = string(rapid.SliceOf(rapid.Byte()).Draw(t, "custom_id"))
			r.RequestID = rapid.String().Draw(t, "request_id")
			r.StatusCode = rapid.IntRange(100, 599).Draw(t, "status")
		}))
	})
}

func BenchmarkAppendOutputLine(b *testing.B) {
	pretty := []byte("{\n  \"id\": \"chatcmpl-1\",\n  \"choices\": [ { \"index\": 0, \"message\": { \"role\": \"assistant\", \"content\": \"" +
		strings.Repeat("One sentence of an answer, then a line end.\\n", 20) + "\" } } ],\n  \"usage\": { \"prompt_tokens\": 12, \"completion_tokens\": 200 }\n}")
	compact := new(bytes.Buffer)
	if err := json.Compact(compact, pretty); err != nil {
		b.Fatal(err)
	}
	for name, body := range map[string][]byte{
		"compact": compact.Bytes(),
		"pretty":  pretty,
		"text":    bytes.Repeat([]byte("Service Unavailable "), 50),
	} {
		b.Run(name, func(b *testing.B) {
			r := result(func(r *batch.Result) { r.Body = body })
			var line []byte
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				line = AppendOutputLine(line[:0], r)
			}
		})
	}
}
