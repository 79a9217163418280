package mock

import (
	"encoding/json"
	"net/http"
)

type streamOptions struct {
	IncludeUsage bool `json:"include_usage"`
}

// event is one of a streamed answer.
type event struct {
	name  string // empty: it has none
	data  any    // a string is sent as it is
	token bool   // a part of the answer, which takes its time
}

// events are the answer as a stream; nil: the call asks for none.
func (c *call) events(answer any) []event {
	if !c.Stream {
		return nil
	}
	switch answer := answer.(type) {
	case chatCompletion:
		return c.chatEvents(answer)
	case completion:
		return c.completionEvents(answer)
	case response:
		return answer.events()
	}
	return nil // as real endpoints, which ignore what they don't know
}

// stream sends events, and calls ended before the last. It reports whether the
// client is still there.
func (s *settings) stream(w http.ResponseWriter, r *http.Request, d draw, events []event, ended func()) bool {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	w.Header().Set("Cache-Control", "no-cache")
	flush := http.NewResponseController(w).Flush
	begun := false
	for i, e := range events {
		if e.token {
			if begun && !s.hold(r, s.token, d) {
				return false
			}
			begun = true
		}
		if i == len(events)-1 {
			ended()
		} else if r.Context().Err() != nil {
			return false
		}
		_, _ = w.Write(e.encode()) // fails if the client has gone
		_ = flush()
	}
	return true
}

func (e event) encode() []byte {
	var out []byte
	if e.name != "" {
		out = append(out, "event: "+e.name+"\n"...)
	}
	data, isText := e.data.(string)
	if !isText {
		encoded, err := json.Marshal(e.data)
		if err != nil {
			panic(err) // it was part of an answer that was encoded
		}
		data = string(encoded)
	}
	return append(out, "data: "+data+"\n\n"...)
}

// chunk is an event of chat completions and completions.
type chunk struct {
	ID      string          `json:"id"`
	Object  string          `json:"object"`
	Created int64           `json:"created"`
	Model   string          `json:"model"`
	Choices []chunkChoice   `json:"choices"`
	Usage   json.RawMessage `json:"usage,omitempty"`
}

type chunkChoice struct {
	Index        int            `json:"index"`
	Delta        map[string]any `json:"delta,omitempty"`
	Text         *string        `json:"text,omitempty"`
	Logprobs     any            `json:"logprobs"`
	FinishReason *string        `json:"finish_reason"`
}

// chunks are the events of choices, which take turns, and their usage if it is
// asked for.
func (c *call) chunks(of chunk, used usage, choices [][]chunkChoice) (events []event) {
	if c.StreamOptions.IncludeUsage {
		of.Usage = json.RawMessage("null")
	}
	for turn, left := 0, true; left; turn++ {
		left = false
		for _, parts := range choices {
			if turn >= len(parts) {
				continue
			}
			left = true
			next := of
			next.Choices = parts[turn : turn+1]
			_, isRole := parts[turn].Delta["role"]
			events = append(events, event{data: next, token: !isRole && parts[turn].FinishReason == nil})
		}
	}
	if c.StreamOptions.IncludeUsage {
		last := of
		last.Choices = []chunkChoice{}
		last.Usage, _ = json.Marshal(used) // numbers can be encoded
		events = append(events, event{data: last})
	}
	return append(events, event{data: "[DONE]"})
}

func (c *call) chatEvents(answer chatCompletion) []event {
	var choices [][]chunkChoice
	for _, choice := range answer.Choices {
		first := map[string]any{"role": choice.Message.Role, "content": nil, "refusal": nil}
		if choice.Message.Content != nil {
			first["content"] = ""
		}
		parts := []chunkChoice{{Index: choice.Index, Delta: first}}
		for i, call := range choice.Message.ToolCalls {
			parts = append(parts, chunkChoice{Index: choice.Index, Delta: map[string]any{"tool_calls": []any{map[string]any{
				"index": i, "id": call.ID, "type": call.Type, "function": calledByName{Name: call.Function.Name},
			}}}})
			for _, token := range tokensOf(call.Function.Arguments) {
				parts = append(parts, chunkChoice{Index: choice.Index, Delta: map[string]any{"tool_calls": []any{map[string]any{
					"index": i, "function": map[string]any{"arguments": token},
				}}}})
			}
		}
		if choice.Message.Content != nil {
			for i, token := range tokensOf(*choice.Message.Content) {
				part := chunkChoice{Index: choice.Index, Delta: map[string]any{"content": token}}
				if choice.Logprobs != nil {
					part.Logprobs = chatLogprobs{Content: choice.Logprobs.Content[i : i+1]}
				}
				parts = append(parts, part)
			}
		}
		choices = append(choices, append(parts, chunkChoice{Index: choice.Index, Delta: map[string]any{}, FinishReason: &choice.FinishReason}))
	}
	return c.chunks(chunk{ID: answer.ID, Object: "chat.completion.chunk", Created: answer.Created, Model: answer.Model}, answer.Usage, choices)
}

func (c *call) completionEvents(answer completion) []event {
	var choices [][]chunkChoice
	for _, choice := range answer.Choices {
		var parts []chunkChoice
		for i, token := range tokensOf(choice.Text) {
			part := chunkChoice{Index: choice.Index, Text: &token}
			if all := choice.Logprobs; all != nil {
				part.Logprobs = completionLogprobs{all.Tokens[i : i+1], all.Logprobs[i : i+1], all.Top[i : i+1], all.Offsets[i : i+1]}
			}
			parts = append(parts, part)
		}
		choices = append(choices, append(parts, chunkChoice{Index: choice.Index, Text: new(string), FinishReason: &choice.FinishReason}))
	}
	return c.chunks(chunk{ID: answer.ID, Object: answer.Object, Created: answer.Created, Model: answer.Model}, answer.Usage, choices)
}

// events are those of a response with one output.
func (r response) events() (events []event) {
	add := func(kind string, token bool, members map[string]any) {
		members["type"], members["sequence_number"] = kind, len(events)
		events = append(events, event{name: kind, data: members, token: token})
	}
	begun := r
	begun.Status, begun.Output, begun.IncompleteDetails = "in_progress", []responseOutput{}, nil
	for _, kind := range []string{"response.created", "response.in_progress"} {
		add(kind, false, map[string]any{"response": begun})
	}
	output := r.Output[0]
	item := output
	item.Status, item.Content, item.Arguments = "in_progress", nil, ""
	add("response.output_item.added", false, map[string]any{"output_index": 0, "item": item})
	at := func(members map[string]any) map[string]any {
		members["item_id"], members["output_index"] = output.ID, 0
		return members
	}
	for _, token := range tokensOf(output.Arguments) {
		add("response.function_call_arguments.delta", true, at(map[string]any{"delta": token}))
	}
	if output.Type == "function_call" {
		add("response.function_call_arguments.done", false, at(map[string]any{"arguments": output.Arguments, "name": output.Name}))
	}
	for i, content := range output.Content {
		empty := content
		empty.Text = ""
		add("response.content_part.added", false, at(map[string]any{"content_index": i, "part": empty}))
		for _, token := range tokensOf(content.Text) {
			add("response.output_text.delta", true, at(map[string]any{"content_index": i, "delta": token, "logprobs": []any{}}))
		}
		add("response.output_text.done", false, at(map[string]any{"content_index": i, "text": content.Text, "logprobs": []any{}}))
		add("response.content_part.done", false, at(map[string]any{"content_index": i, "part": content}))
	}
	add("response.output_item.done", false, map[string]any{"output_index": 0, "item": output})
	add("response."+r.Status, false, map[string]any{"response": r})
	return events
}
