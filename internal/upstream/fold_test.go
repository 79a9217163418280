package upstream

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// foldStream reads a stream as the answer to a request of some choices.
func foldStream(t failer, path string, choices int, source io.Reader, limit int64) ([]byte, error) {
	t.Helper()
	cfg := Config{Timeout: ample}.withDefaults()
	clock := new(streamClock)
	ctx, cancel := clock.watch(context.Background(), &cfg)
	defer cancel()
	resp := &http.Response{StatusCode: 200, Body: io.NopCloser(source), ContentLength: -1}
	body, err := readStream(streamAsk{kind: streamKindOf(path), choices: choices}, resp, limit, clock)
	if err != nil && ctx.Err() != nil { // behind a whole answer it may: what follows has drainTime to come
		t.Fatalf("the clock ended the call")
	}
	return body, err
}

func sameJSON(t failer, want, got []byte) {
	t.Helper()
	var a, b any
	if err := json.Unmarshal(want, &a); err != nil {
		t.Fatalf("what is wanted is not JSON: %v\n%s", err, want)
	}
	if err := json.Unmarshal(got, &b); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, got)
	}
	if diff := cmp.Diff(a, b); diff != "" {
		t.Fatalf("(-want +got):\n%s\n%s", diff, got)
	}
}

// pieces reads a text in pieces of random sizes.
type pieces struct {
	rest string
	rand *rand.Rand
}

func (p *pieces) Read(b []byte) (int, error) {
	if p.rest == "" {
		return 0, io.EOF
	}
	n := copy(b, p.rest[:min(1+p.rand.IntN(40), len(p.rest))])
	p.rest = p.rest[n:]
	return n, nil
}

// A stream folds to the answer that the same server gives without one, wherever
// it is split and however its lines end.
func TestFold(t *testing.T) {
	t.Parallel()
	for _, test := range streamFixtures {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, end := range []string{"\n", "\r\n", "\r"} {
				stream := test.stream
				if !strings.Contains(stream, "\r") {
					stream = strings.ReplaceAll(stream, "\n", end)
				}
				whole, err := foldStream(t, test.path, 1, strings.NewReader(stream), 1<<20)
				if err != nil {
					t.Fatal(err)
				}
				sameJSON(t, []byte(test.want), whole)
				readers := []io.Reader{iotest.OneByteReader(strings.NewReader(stream)), iotest.DataErrReader(strings.NewReader(stream))}
				for seed := range uint64(20) {
					readers = append(readers, &pieces{stream, rand.New(rand.NewPCG(seed, 1))})
				}
				for i, r := range readers {
					if got, err := foldStream(t, test.path, 1, r, 1<<20); err != nil || !bytes.Equal(whole, got) {
						t.Fatalf("reader %d, line end %q: %v\n%s\nand whole:\n%s", i, end, err, got, whole)
					}
				}
			}
		})
	}
}

// The end of a message that never began is no answer.
func TestFoldOfAnEndAlone(t *testing.T) {
	t.Parallel()
	const end = "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"
	if got, err := foldStream(t, "/v1/messages", 1, strings.NewReader(end), 1<<20); !errors.Is(err, errBadEvent) {
		t.Errorf("taken for %s, %v", got, err)
	}
}

// A stream that is cut off anywhere is no answer, unless all that is missing is
// the mark of its end or the usage.
func TestFoldOfCutStreams(t *testing.T) {
	t.Parallel()
	for _, test := range streamFixtures {
		stream := test.stream
		finishes := strings.LastIndex(stream, `"finish_reason":"`)
		if i := strings.LastIndex(stream, `"stop_reason":"tool_use"`); i > 0 {
			finishes = i
		}
		if i := strings.Index(stream, `"type":"response.completed"`); i > 0 {
			finishes = i
		}
		if test.name == "completions of vLLM" || strings.HasPrefix(test.name, "two choices") {
			continue // below
		}
		for cut := range finishes {
			if got, err := foldStream(t, test.path, 1, strings.NewReader(stream[:cut]), 1<<20); err == nil && bytes.Contains(got, []byte("{")) {
				t.Fatalf("%s, cut at %d: taken for whole: %s", test.name, cut, got)
			}
		}
	}
	const first = `data: {"choices":[{"index":0,"text":"a","finish_reason":"stop"}]}` + "\n\n"
	const second = `data: {"choices":[{"index":1,"text":"b","finish_reason":"stop"}]}` + "\n\n"
	for _, test := range []struct {
		choices int
		stream  string
		want    error
	}{
		{1, first, nil},
		{2, first, errBrokenStream},
		{2, first + second, nil},
		{2, first + "data: [DONE]\n\n", nil}, // it is the server's business then
		{1, first + `data: {"choices":[{"index":1,"text":"b"}]}` + "\n\n", errBrokenStream},
	} {
		if _, err := foldStream(t, "/v1/completions", test.choices, strings.NewReader(test.stream), 1<<20); !errors.Is(err, test.want) {
			t.Errorf("%d choices, %q: %v, want %v", test.choices, test.stream, err, test.want)
		}
	}
	if _, err := foldStream(t, "/v1/completions", 1, iotest.TimeoutReader(iotest.OneByteReader(strings.NewReader(first))), 1<<20); err == nil {
		t.Error("a broken connection was taken for the end")
	}
}

// drawAnswer draws a chat completion as endpoints give it.
func drawAnswer(t *rapid.T) (answer map[string]any, choices int) {
	text := rapid.StringOf(rapid.RuneFrom([]rune("ab \"\\\n\r\t{}[]:,é😀\u2028")))
	var list []any
	for i := range rapid.IntRange(1, 3).Draw(t, "choices") {
		message := map[string]any{"role": "assistant", "content": nil}
		for _, name := range []string{"content", "refusal", "reasoning_content", "something_new"} {
			if rapid.Bool().Draw(t, name) {
				message[name] = text.Draw(t, name)
			}
		}
		var calls []any
		for j := range rapid.IntRange(0, 3).Draw(t, "calls") {
			calls = append(calls, map[string]any{"id": fmt.Sprint("call_", i, j), "type": "function",
				"function": map[string]any{"name": fmt.Sprint("f", j), "arguments": text.Draw(t, "arguments")}})
		}
		if calls != nil {
			message["tool_calls"] = calls
		}
		list = append(list, map[string]any{"index": float64(i), "message": message, "finish_reason": "stop", "logprobs": nil})
	}
	return map[string]any{"id": "c", "object": "chat.completion", "created": 1.0, "model": "m", "choices": list,
		"usage": map[string]any{"prompt_tokens": 1.0, "completion_tokens": 2.0}}, len(list)
}

// deltas are the messages of a stream, in which each text comes in parts.
func deltas(t *rapid.T, message map[string]any) (list []map[string]any) {
	list = append(list, map[string]any{"role": "assistant"})
	parts := func(text string, add func(part string)) {
		runes := []rune(text)
		for {
			n := rapid.IntRange(0, len(runes)).Draw(t, "part")
			add(string(runes[:n]))
			if runes = runes[n:]; len(runes) == 0 {
				return
			}
		}
	}
	for name, value := range message {
		switch value := value.(type) {
		case string:
			if name != "role" {
				parts(value, func(part string) { list = append(list, map[string]any{name: part}) })
			}
		case []any:
			for i, call := range value {
				call := call.(map[string]any)
				function := call["function"].(map[string]any)
				list = append(list, map[string]any{name: []any{map[string]any{"index": i, "id": call["id"], "type": "function",
					"function": map[string]any{"name": function["name"], "arguments": ""}}}})
				parts(function["arguments"].(string), func(part string) {
					list = append(list, map[string]any{name: []any{map[string]any{"index": i, "function": map[string]any{"arguments": part}}}})
				})
			}
		}
	}
	return list
}

// An answer that is sent in parts, those of its choices in any order, is the
// answer again.
func TestFoldUndoesStreaming(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		answer, n := drawAnswer(t)
		var stream strings.Builder
		send := func(choices []any, usage any) {
			data, err := json.Marshal(map[string]any{"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": choices, "usage": usage})
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&stream, "data: %s\n\n", data)
		}
		queues := make([][]map[string]any, n)
		for i, choice := range answer["choices"].([]any) {
			queues[i] = deltas(t, choice.(map[string]any)["message"].(map[string]any))
		}
		for open := n; open > 0; {
			i := rapid.IntRange(0, n-1).Draw(t, "choice")
			switch {
			case queues[i] == nil:
			case len(queues[i]) == 0:
				send([]any{map[string]any{"index": i, "delta": map[string]any{}, "finish_reason": "stop", "logprobs": nil}}, nil)
				queues[i] = nil
				open--
			default:
				send([]any{map[string]any{"index": i, "delta": queues[i][0], "finish_reason": nil, "logprobs": nil}}, nil)
				queues[i] = queues[i][1:]
			}
		}
		send([]any{}, answer["usage"])
		stream.WriteString("data: [DONE]\n\n")
		got, err := foldStream(t, "/v1/chat/completions", n, &pieces{stream.String(), rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(answer)
		if err != nil {
			t.Fatal(err)
		}
		sameJSON(t, want, got)
	})
}

// Memory is bounded by the limit of a body, whatever fills it.
func TestFoldIsBounded(t *testing.T) {
	t.Parallel()
	endless := func(event func(i int) string) io.Reader {
		i, left := 0, ""
		return readerFunc(func(p []byte) (int, error) {
			if left == "" {
				left = event(i)
				i++
			}
			n := copy(p, left)
			left = left[n:]
			return n, nil
		})
	}
	for name, event := range map[string]func(i int) string{
		"text": func(int) string { return `data: {"choices":[{"delta":{"content":"abcdefgh"}}]}` + "\n\n" },
		"choices": func(i int) string {
			return fmt.Sprintf(`data: {"choices":[{"index":%d}]}`+"\n\n", i%9) + `data: {"choices":[{"delta":{"c":[1]}}]}` + "\n\n"
		},
		"tool calls": func(i int) string {
			return fmt.Sprintf(`data: {"choices":[{"delta":{"tool_calls":[{"index":%d}]}}]}`+"\n\n", i)
		},
		"members":      func(i int) string { return fmt.Sprintf(`data: {"m%d":1}`+"\n\n", i) },
		"one line":     func(int) string { return `data: {"choices":[` },
		"one event":    func(int) string { return `data: {}` + "\n" },
		"one comment":  func(int) string { return `: abcdefgh` },
		"content part": func(i int) string { return fmt.Sprintf(`data: {"type":"content_block_delta","index":%d}`+"\n\n", i) },
	} {
		path := "/v1/chat/completions"
		if name == "content part" {
			path = "/v1/messages"
		}
		if _, err := foldStream(t, path, 1, endless(event), 20_000); !errors.Is(err, errTooLarge) {
			t.Errorf("%s: %v, want %v", name, err, errTooLarge)
		}
	}
	// A stream may be as long as it likes if its answer is not.
	long := strings.Repeat(`data: {"choices":[{"delta":{},"usage":{"n":1}}]}`+"\n\n: ping\n\n", 5000) +
		`data: {"choices":[{"delta":{"content":"x"},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	if _, err := foldStream(t, "/v1/chat/completions", 1, strings.NewReader(long), 20_000); err != nil {
		t.Error(err)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func FuzzFold(f *testing.F) {
	for _, fixture := range streamFixtures {
		f.Add(fixture.path, fixture.stream, uint64(1))
	}
	f.Fuzz(func(t *testing.T, path, stream string, seed uint64) {
		if streamKindOf(path) == 0 {
			return
		}
		whole, err := foldStream(t, path, 1, strings.NewReader(stream), 1<<16)
		split, err2 := foldStream(t, path, 1, &pieces{stream, rand.New(rand.NewPCG(seed, 1))}, 1<<16)
		if (err == nil) != (err2 == nil) || !bytes.Equal(whole, split) {
			t.Fatalf("whole: %v\n%s\nsplit: %v\n%s", err, whole, err2, split)
		}
		if err == nil && len(whole) > 0 && whole[0] == '{' && !json.Valid(whole) && isStream("", []byte(strings.TrimSpace(strings.TrimPrefix(stream, "\ufeff")))) {
			t.Fatalf("not JSON: %s", whole)
		}
	})
}
